#include "lib/model/block_walk.h"

namespace qwb {

void BlockWalk::leave(const InputGroup& last) {
  if (last.closes) {
    block_.leave(last.sublayer, input_, x_);
  } else {
    block_.advance(last.sublayer, part_, x_);
  }
}

const InputGroup* BlockWalk::next() {
  const std::vector<InputGroup>& groups = block_.groups();
  const bool ends = next_ == groups.size();
  if (next_ > 0 && (ends || groups[next_].sublayer != groups[next_ - 1].sublayer))
    leave(groups[next_ - 1]);
  if (ends) return nullptr;
  const InputGroup& group = groups[next_++];
  std::vector<int64_t> only;
  if (group.expert >= 0) only = block_.rows(group, x_);
  input_ = executor_.allocate(group.expert >= 0 ? std::ssize(only) : x_.rows, group.in());
  block_.input(group, x_, part_, only, input_);
  return &group;
}

}  // namespace qwb
