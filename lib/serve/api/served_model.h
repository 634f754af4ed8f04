// A model under the name that requests choose it by.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/loaded_model.h"
#include "lib/chat/chat_template.h"
#include "lib/jobs/kept_quality.h"
#include "lib/model/sampling.h"
#include "lib/serve/api/completion_request.h"
#include "lib/serve/engine/running_job.h"

namespace qwb::serve {

struct ServedModel {
  std::string name;
  LoadedModel loaded;
  std::optional<ChatTemplate> chat;  // none: the model has none
  std::vector<int32_t> end_tokens;
  SamplingSettings defaults;
  int64_t context = 0;  // tokens; at most context_limit()
  int64_t created = 0;  // unix seconds
  std::string method;   // subject.h
  std::optional<double> bits, bpw;
  int64_t bytes = 0;  // of all tensors
  KeptModel kept;     // whose kept results are its own; hash and forward are the caller's to fill

  EngineModel engine() const { return {loaded.model.get(), &*loaded.tokenizer, context}; }
  // The text without the model's place on this machine, which is nobody's business.
  std::string without_place(std::string text) const;
  // The conversation as tokens that wait for the answer. Throws ApiError 400 with the template's
  // words if it refuses the messages, or if there is no template, or none that takes tools.
  std::string rendered(const CompletionRequest& request) const;
};

// The most tokens that the model can look back on: its positions, or where longrope would take
// other frequencies for all of a text.
int64_t context_limit(const Model& model);
// Fills everything but the context. `given`: settings that count more than those of the model's
// generation_config.json, which count more than OpenAI's (temperature 1).
struct GivenSampling {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
};
ServedModel served_model(std::string name, LoadedModel loaded, const GivenSampling& given);

}  // namespace qwb::serve
