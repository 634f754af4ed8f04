// A model that is open, and what is known of it besides its tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "formats/model_source.h"
#include "lib/base/json.h"

namespace qwb {

struct OpenModel {
  std::shared_ptr<const ModelSource> source;
  Json config;         // config.json; tie_word_embeddings is false where the tensors say so
  Path folder;         // or the file that holds the model
  std::string format;  // ModelFormat::name
  // qwb.json, or what can be told of another format's quantized modules; null where nothing is
  // known of how they were made.
  Json manifest = nullptr;
  int64_t weight_bytes = 0;  // of all files with weights
  bool one_file = false;     // which holds the settings and the companions too
  // Tensors of the source that cannot change a result (model_check.h).
  std::set<std::string> unused = {};
  bool untied = false;  // config.json ties two embeddings that differ

  // XXH3-128 (hex) of what the model computes; see Checkpoint::content_hash. The memo folder spares
  // reading the same files again.
  std::string content_hash(const Path& memo_folder = {}, const Context& context = {}) const;

  // config.json's place in error messages: the one file where there is no other.
  std::string config_name() const;
};

}  // namespace qwb
