// One sequence's way through a block, from one group of modules to the next: for whoever looks at
// the inputs without changing the modules. A walk to the end leaves the stream as Block::forward
// does, bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/model/block.h"

namespace qwb {

class BlockWalk {
 public:
  // x [tokens, hidden], the residual stream, changes on the way. All must outlive the walk.
  BlockWalk(const Block& block, const SequencePart& part, float* x)
      : block_(block), part_(part), x_(x) {}

  // Goes on to the next group and computes its input; null behind the last one: x then is what
  // leaves the block.
  const InputGroup* next();
  // f32 [rows, group.in()], of the group that next() returned.
  const FloatBuffer& input() const { return input_; }
  int64_t rows() const { return rows_; }

 private:
  void leave(const InputGroup& last);

  const Block& block_;
  SequencePart part_;
  float* x_;
  size_t next_ = 0;
  int64_t rows_ = 0;
  FloatBuffer input_;
};

}  // namespace qwb
