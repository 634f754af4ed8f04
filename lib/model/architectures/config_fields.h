// Helpers for reading the fields that several architectures share.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/model/config.h"

namespace qwb {

// A size from config.json: positive and at most 2^31; `fallback` if absent. Throws `failed`, also
// for null.
int64_t config_size(const Json& config, const std::string& key, const std::string& where,
                    int64_t fallback);
// The same for a number or a switch.
double config_number(const Json& config, const std::string& key, const std::string& where,
                     double fallback);
bool config_switch(const Json& config, const std::string& key, const std::string& where,
                   bool fallback);
// "silu", "gelu_new", ...; absent: `fallback`. Throws unsupported for others.
Activation config_activation(const Json& config, const std::string& key, const std::string& where,
                             const std::string& fallback);
// bos_token_id and eos_token_id (a number, a list or null); -1: no default.
void parse_special_ids(const Json& config, const std::string& where, int64_t bos, int64_t eos,
                       ModelConfig& out);
// layer_types, if present: one for each of `layers`, true where the layer slides. Throws `failed`
// for another count, unsupported for other kinds of attention.
std::optional<std::vector<bool>> sliding_layers(const Json& config, const std::string& where,
                                                int64_t layers);
// True for every layer but those whose number, from 1 on, divides by the interval that the key
// gives; absent: `fallback`. Throws `failed` for 0.
std::vector<bool> all_but_every(const Json& config, const std::string& key,
                                const std::string& where, int64_t fallback, int64_t layers);
// layer_types, or all but every sliding_window_pattern-th layer.
std::vector<bool> slides_by_pattern(const Json& config, const std::string& where, int64_t fallback,
                                    int64_t layers);
// Throws `failed`, as transformers does, where layer_types names a sliding layer and there is no
// window.
void refuse_slides_without_window(const Json& config, const std::string& where, bool window);
// Throws unsupported for rope parameters of each kind of layer, for families with layer_types.
void refuse_nested_rope(const Json& config, const std::string& where);
// sliding_window: null 0, absent `fallback`.
int64_t window_size(const Json& config, const std::string& where, int64_t fallback = 0);

}  // namespace qwb
