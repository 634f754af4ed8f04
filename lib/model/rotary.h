// Rotary position embedding of the tokens of one sequence.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/model/config.h"

namespace qwb {

// cos and sin of the rotary angles of consecutive positions; empty for layers without rotary
// embedding.
struct Rotation {
  Matrix cosine;  // [tokens, pairs that turn], in the executor's memory
  Matrix sine;
  bool empty() const { return cosine.columns() == 0; }
};

// Of all layers of a model.
class RotaryTable {
 public:
  RotaryTable(const Executor& executor, const Rope& rope, int64_t first_position, int64_t tokens);
  const Rotation& of(int64_t layer) const;

 private:
  Rotation whole_, local_, none_;
  std::vector<LayerRope> layers_;
};

}  // namespace qwb
