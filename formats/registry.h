// Opening a model folder whatever its format. A new format is one line in registry.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/tensor/source.h"

namespace qwb {

struct OpenModel {
  std::shared_ptr<const TensorSource> source;
  Json config;  // config.json
  Path folder;
  std::string format;        // "huggingface", "qwb" or the name of a packed format
  Json manifest;             // qwb.json, or what can be told of a packed format; null for huggingface
  int64_t weight_bytes = 0;  // of all safetensors files

  // XXH3-128 (hex) of what the model computes; see Checkpoint::content_hash. The memo folder spares reading
  // the same files again.
  std::string content_hash(const Path& memo_folder = {}) const;
};

// Throws not_found, unsupported (naming what is there instead, and what to do) or `failed`.
OpenModel open_model(const Path& folder);

// Names of the formats that can be opened or written.
std::vector<std::string> model_format_names();

}  // namespace qwb
