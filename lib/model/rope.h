// Frequencies of the rotary embedding from config.json. Formulas: transformers'
// modeling_rope_utils.py; llama3 from Meta's Llama 3.1; YaRN: arXiv 2309.00071.
#pragma once

#include <cstdint>
#include <string>

#include "lib/model/config.h"

namespace qwb {

// From rope_parameters, or rope_scaling where that has anything in it: default, linear, llama3 and
// yarn. `theta`: the family's, where config.json has none. Throws unsupported for other kinds,
// `failed` where transformers would not load it.
Rope parse_rope(const Json& config, const std::string& where, int64_t head_dim,
                int64_t max_positions, double theta = 1e4);

}  // namespace qwb
