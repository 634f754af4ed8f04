// A model folder opened for evaluation: weights, tokenizer, and the metadata of its files.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "formats/loaded_model.h"

namespace qwb {

// Without a tokenizer where none is needed: speed can be measured all the same.
struct Subject : LoadedModel {
  std::string
      method;  // "none", as qwb.json says, or the format of a model quantized by others ("gguf")
  std::optional<double> bits;
  std::optional<double> bpw;
  int64_t tensor_bytes = 0;
  std::optional<int64_t> quantize_peak;  // memory of the process that made it, as qwb.json says
  std::string source;       // the unquantized model, as qwb.json names it; may be empty
  std::string source_hash;  // its content hash then; may be empty
};

// Throws what load_model throws. executor: null is the fast one on the context's threads.
Subject open_subject(const Path& folder, LoadOptions options, const Context& context = {});
// A missing tokenizer is an error only if `needs_tokenizer`.
Subject open_subject(const Path& folder, bool needs_tokenizer, const Context& context = {},
                     std::shared_ptr<const Executor> executor = nullptr);

// What of LoadedModel::additions decides results: hashes and scales, no names.
Json additions_key(const Json& additions);

// Of a model that is loaded already.
Subject describe_subject(LoadedModel loaded);

// The folder of the unquantized model: the path in qwb.json, taken as it is or relative to the
// artifact; of an unquantized model with additions its own, which is looked at without them.
// Nothing if it is not there or is not named.
std::optional<Path> baseline_folder(const Subject& subject);

}  // namespace qwb
