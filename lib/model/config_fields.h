// Helpers for reading the fields that several architectures share.
#pragma once

#include <string>

#include "lib/model/config.h"

namespace qwb {

// A size from config.json: present, positive and at most 2^31.
int64_t config_size(const Json& config, const std::string& key, const std::string& where);
int64_t config_size(const Json& config, const std::string& key, const std::string& where, int64_t fallback);
// "silu", "gelu_new", ...; throws unsupported for others.
Activation parse_activation(const std::string& name, const std::string& where);
// bos_token_id and eos_token_id (a number, a list or null).
void parse_special_ids(const Json& config, const std::string& where, ModelConfig& out);
// Everything of the Llama family but architecture-specific fields: sizes, rope, tied embeddings, activation,
// eps.
ModelConfig parse_llama_family(const Json& config, const std::string& where);
// The window of each layer from sliding_window, layer_types and max_window_layers. `from_layer`: used without
// layer_types.
void parse_windows(const Json& config, const std::string& where, int64_t from_layer, ModelConfig& out);
// rope_parameters, or rope_theta with rope_scaling: default, linear, llama3 and yarn. Throws unsupported for
// other kinds.
Rope parse_rope(const Json& config, const std::string& where, int64_t head_dim, int64_t max_positions);

}  // namespace qwb
