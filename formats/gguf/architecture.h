// Names and settings of a model in GGUF and in Hugging Face's form, both ways, by what each
// architecture says of itself (lib/model/gguf_spec.h). Sources: formats/gguf/gguf.md.
#pragma once

#include <optional>
#include <string>

#include "formats/gguf/file.h"
#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/model/architecture.h"

namespace qwb {

// The architecture of a file, which has a GgufSpec. Throws unsupported for one that this build does
// not know, or a file that says to hold no model.
const Architecture& architecture_of_gguf(const GgufMetadata& metadata, const std::string& where);
// Of a config.json. Throws unsupported for an architecture that GGUF cannot hold here.
const GgufSpec& gguf_spec(const Json& config, const std::string& where);

struct GgufName {
  std::string name;
  GgufLayout layout = GgufLayout::plain;
};

// Nothing for a tensor that the other side does not have ("rope_freqs.weight").
std::optional<GgufName> huggingface_tensor_name(const GgufSpec& spec, const std::string& gguf);
std::optional<GgufName> gguf_tensor_name(const GgufSpec& spec, const std::string& huggingface);

// config.json of the model. Throws unsupported for an architecture or setting that this build does
// not know, `failed` for missing or broken keys.
Json huggingface_config(const GgufFile& file, const std::string& where);

// That each key under the architecture's name is one that huggingface_config reads, or does not
// change the result. Throws unsupported, naming the key.
void check_gguf_keys(const GgufMetadata& metadata, const std::string& architecture,
                     const std::string& where);

// Everything but tokenizer.* and general.*. Settings that llama.cpp would ignore are refused
// (unsupported), or told through `context` where they matter only sometimes.
void add_gguf_settings(const GgufSpec& spec, const ModelConfig& config, const std::string& where,
                       GgufMetadata& metadata, const Context& context);

}  // namespace qwb
