// What GGUF's architectures are called and how their tensors and settings map to those of Hugging
// Face, both ways. Tables and sources: formats/gguf/gguf.md.
#pragma once

#include <optional>
#include <string>

#include "formats/gguf/file.h"
#include "lib/base/context.h"
#include "lib/base/json.h"

namespace qwb {

// How the stored tensor differs from the Hugging Face one.
enum class GgufLayout {
  plain,
  transposed,  // GPT-2's Conv1D is [in, out] there and [out, in] here
  heads,       // Llama's q: the rows of every head interleaved (GgmlBlocks::head_rows)
  kv_heads,    // Llama's k
};

struct GgufName {
  std::string name;
  GgufLayout layout = GgufLayout::plain;
};

// `architecture`: general.architecture. Nothing for a tensor that the other side does not have
// ("rope_freqs.weight").
std::optional<GgufName> huggingface_tensor_name(const std::string& architecture,
                                                const std::string& gguf);
// Hugging Face names with or without GPT-2's prefix "transformer.".
std::optional<GgufName> gguf_tensor_name(const std::string& architecture,
                                         const std::string& huggingface);

// config.json of the model. Throws unsupported for an architecture or setting that this build does
// not know, `failed` for missing or broken keys.
Json huggingface_config(const GgufFile& file, const std::string& where);

// That each key under the architecture's name is one that huggingface_config reads, or does not
// change the result; and that the file says to hold a model. Throws unsupported, naming the key.
void check_gguf_keys(const GgufMetadata& metadata, const std::string& architecture,
                     const std::string& where);

// general.architecture for a config.json. Throws unsupported.
std::string gguf_architecture(const Json& config, const std::string& where);
// Everything but tokenizer.* and general.*. Settings that llama.cpp would ignore are refused
// (unsupported), or told through `context` where they matter only sometimes.
void add_gguf_settings(const Json& config, const std::string& where, GgufMetadata& metadata,
                       const Context& context);
// The divisors of the rotary frequencies of a llama3-scaled model, head_dim / 2 of them (the tensor
// "rope_freqs.weight"); empty for others.
std::vector<float> gguf_rope_divisors(const Json& config, const std::string& where);

// rope_parameters of type llama3 that have these divisors. Throws unsupported if none have.
Json llama3_parameters(const std::vector<float>& divisors, double theta, double trained,
                       const std::string& where);

}  // namespace qwb
