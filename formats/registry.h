// Opening a model folder whatever its format. A new format is one line in registry.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/codec/source.h"

namespace qwb {

struct OpenModel {
  std::shared_ptr<const TensorSource> source;
  Json config;         // config.json; tie_word_embeddings is false where the tensors say so
  Path folder;         // or the file that holds the model
  std::string format;  // "huggingface", "gguf", "qwb" or the name of a packed format
  Json manifest;  // qwb.json, or what can be told of a packed format; null for huggingface and gguf
  int64_t weight_bytes = 0;  // of all safetensors files
  std::set<std::string> unused =
      {};               // tensors of the source that cannot change a result (model_check.h)
  bool untied = false;  // config.json ties two embeddings that differ

  // XXH3-128 (hex) of what the model computes; see Checkpoint::content_hash. The memo folder spares
  // reading the same files again.
  std::string content_hash(const Path& memo_folder = {}, const Context& context = {}) const;

  // config.json's place in error messages.
  std::string config_name() const;
};

// A folder, or a file that holds a whole model, complete and understood (formats/model_check.h).
// What was left out or set right is told to `context`, a note each. Throws not_found, unsupported
// (naming what is there instead, and what to do) or `failed`.
OpenModel open_model(const Path& folder, const Context& context = {});

// True if some format recognizes what is there, whether or not it can be opened.
bool detect_model(const Path& folder);

// Names of the formats that can be opened or written.
std::vector<std::string> model_format_names();

}  // namespace qwb
