// A low-rank addition to a linear module (LoRA): y += scale * B (A x). The product B A is never
// formed, so that it works beside a weight of any codec, which stays as it is.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lib/exec/executor.h"

namespace qwb {

class LowRank {
 public:
  // a [rank, in], b [out, rank], f32, row-major; copied into the executor's memory.
  struct Factors {
    int64_t rank = 0, in = 0, out = 0;
    std::span<const float> a = {}, b = {};
    float scale = 1;
  };
  // Throws `failed` where the sizes do not fit each other.
  LowRank(const Executor& executor, const Factors& factors);

  int64_t rank() const { return a_.rows(); }
  int64_t in() const { return a_.columns(); }
  int64_t out() const { return b_.rows(); }
  int64_t values() const { return rank() * (in() + out()); }  // how many there are
  float scale() const { return scale_; }
  // In the executor's memory. Whoever trains changes them between passes.
  Out a() const { return a_; }
  Out b() const { return b_; }
  // The same for products; they follow the values.
  const Prepared& prepared_a() const { return prepared_a_; }
  const Prepared& prepared_b() const { return prepared_b_; }

  // y [rows, out] += scale * B (A x). The bits of a sequence do not depend on the others in x.
  void add_to(const Executor& executor, const Rows& x, Out y) const;

 private:
  Matrix a_, b_;
  Prepared prepared_a_, prepared_b_;
  float scale_;
};

// Of one module, in the order they are added.
using LowRanks = std::vector<std::shared_ptr<const LowRank>>;

}  // namespace qwb
