// Frequencies of the rotary embedding from config.json. Formulas: transformers'
// modeling_rope_utils.py; llama3 from Meta's Llama 3.1; YaRN: arXiv 2309.00071.
#pragma once

#include <cstdint>
#include <string>

#include "lib/model/config.h"

namespace qwb {

// What differs between families.
struct RopeRules {
  double theta = 1e4;  // where config.json has none
  // The family's partial_rotary_factor where config.json has none; 0: it turns whole heads, and
  // transformers' classes of it have no other way.
  double partial = 0;
  RotaryPairs pairs = RotaryPairs::halves;
  // Phi-3: kinds are default and longrope, of which su and yarn are old names;
  // original_max_position_embeddings stands beside rope_parameters, and is this where it is absent.
  int64_t longrope_from = 0;
};

// From rope_parameters, or rope_scaling where that has anything in it: default, linear, llama3,
// yarn and, by the rules, longrope. Throws unsupported for other kinds, `failed` where transformers
// would not load it.
Rope parse_rope(const Json& config, const std::string& where, int64_t head_dim,
                int64_t max_positions, const RopeRules& rules);
Rope parse_rope(const Json& config, const std::string& where, int64_t head_dim,
                int64_t max_positions, double theta = 1e4);

}  // namespace qwb
