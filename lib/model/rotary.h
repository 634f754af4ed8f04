// Rotary position embedding of the tokens of one sequence.
#pragma once

#include <cstdint>

#include "lib/model/config.h"

namespace qwb {

// cos and sin of the rotary angles of consecutive positions; empty for models without rotary
// embedding.
struct RotaryTable {
  FloatBuffer cosine;  // [tokens, head_dim / 2]
  FloatBuffer sine;
  RotaryTable(const Rope& rope, int64_t first_position, int64_t tokens);
};

}  // namespace qwb
