// The rotary embedding in GGUF files, both ways: keys for default, linear and yarn, and the tensor
// "rope_freqs.weight" of divisors for llama3. The same for every architecture that rotates.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf/key_reader.h"
#include "lib/base/json.h"
#include "lib/model/config.h"

namespace qwb {

// The keys that gguf_rope_parameters reads.
std::span<const std::string_view> gguf_rope_keys();
// rope_parameters of config.json. Throws unsupported for scalings that transformers does not have,
// `failed` for broken keys or divisors.
Json gguf_rope_parameters(const GgufKeyReader& keys, const GgufFile& file);

// The same the other way. Throws unsupported for what has no place in GGUF.
void add_gguf_rope(const ModelConfig& config, const std::string& where, const std::string& prefix,
                   GgufMetadata& metadata);
// The divisors of the rotary frequencies of a llama3-scaled model, head_dim / 2 of them; empty for
// others.
std::vector<float> gguf_rope_divisors(const ModelConfig& config, const std::string& where);

}  // namespace qwb
