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
  BlockWalk(const Block& block, const Executor& executor, const SequencePart& part, Out x)
      : block_(block), executor_(executor), part_(part), x_(x) {}

  // Goes on to the next group and computes its input; null behind the last one: x then is what
  // leaves the block.
  const InputGroup* next();
  // f32 [rows, group.in()], of the group that next() returned.
  In input() const { return input_; }

 private:
  void leave(const InputGroup& last);

  const Block& block_;
  const Executor& executor_;
  SequencePart part_;
  Out x_;
  size_t next_ = 0;
  Matrix input_;
};

}  // namespace qwb
