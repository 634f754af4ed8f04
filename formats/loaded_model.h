// A model that can run, with everything of its folder that whoever runs it needs: weights,
// tokenizer, chat template, tokens that end a text, the executor, and the hold on the folder if it
// comes from a cache. Completion, evaluation and quantization open models through it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "formats/registry.h"
#include "lib/base/context.h"
#include "lib/chat/chat_template.h"
#include "lib/model/model.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

struct LoadOptions {
  std::shared_ptr<const Executor> executor =
      nullptr;            // null: the fast one, on the context's threads
  bool tokenizer = true;  // load it, and throw if there is none
  ModelUse use = ModelUse::whole;
  std::shared_ptr<const void> hold = nullptr;  // kept as long as the model
  // Adds to the model before others see it (adapters: lib/adapt/use.h); what it returns is kept as
  // LoadedModel::additions. Empty: nothing is added.
  std::function<Json(const OpenModel& open, Model& model)> attach = nullptr;
};

// Can be shared by threads: nothing of it changes while it runs.
struct LoadedModel {
  OpenModel open;
  std::shared_ptr<const Model> model;  // holds its executor
  std::optional<Tokenizer> tokenizer;
  std::shared_ptr<const void> hold;
  // What was added and so is part of what the model computes, as results tell it; null: nothing.
  Json additions = nullptr;
  double load_seconds =
      0;  // from the folder's name to a model that can run, tokenizer apart; pages
          // of mapped weights come later

  // Compiled anew by every call. Throws not_found where the folder has none, and what
  // ChatTemplate::load throws.
  ChatTemplate chat_template() const;
  // What ends a text: generation_config.json's eos_token_id if there is such a file, even if it
  // names none; else config.json's, as in transformers. Throws failed for what is no token.
  std::vector<int64_t> end_tokens() const;
};

// Throws what open_model, make_executor, Model::load and Tokenizer::load throw.
LoadedModel load_model(const Path& folder, LoadOptions options, const Context& context);
// The same of a model that is open already.
LoadedModel load_model(OpenModel open, LoadOptions options, const Context& context);

}  // namespace qwb
