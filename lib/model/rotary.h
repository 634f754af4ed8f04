// Rotary position embedding of the tokens of one sequence.
#pragma once

#include <cstdint>

#include "lib/model/config.h"

namespace qwb {

// cos and sin of the rotary angles of consecutive positions; empty for models without rotary
// embedding.
struct RotaryTable {
  Matrix cosine;  // [tokens, head_dim / 2], in the executor's memory
  Matrix sine;
  RotaryTable(const Executor& executor, const Rope& rope, int64_t first_position, int64_t tokens);
  bool empty() const { return cosine.columns() == 0; }
};

}  // namespace qwb
