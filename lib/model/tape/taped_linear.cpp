#include "lib/model/tape/taped_linear.h"

#include <vector>

#include "lib/exec/counter_bits.h"

namespace qwb {
namespace {

std::vector<uint64_t> keys_of(const TrainedFactors& factors, const TapeRows& rows) {
  std::vector<uint64_t> keys;
  keys.reserve(rows.keys.size());
  for (const uint64_t key : rows.keys) keys.push_back(counter_bits(key, factors.number));
  return keys;
}

}  // namespace

bool TapedLinear::drops(const TapeRows& rows) const {
  return factors_ != nullptr && factors_->dropout > 0 && !rows.keys.empty();
}

Matrix TapedLinear::dropped(const Executor& executor, const TapeRows& rows, In x) const {
  Matrix seen = executor.allocate(x.rows, x.columns);
  executor.training().drop_out(x, keys_of(*factors_, rows), factors_->dropout, seen);
  return seen;
}

Matrix TapedLinear::forward(const Executor& executor, const TapeRows& rows, In x, Out y) const {
  executor.linear(x, base_.affine(), y);
  if (factors_ == nullptr) return {};
  const TrainingOps& ops = executor.training();
  Matrix inner = executor.allocate(x.rows, factors_->rank());
  if (drops(rows)) {
    ops.multiply_transposed(dropped(executor, rows, x), factors_->a, 1, inner);
  } else {
    ops.multiply_transposed(x, factors_->a, 1, inner);
  }
  ops.multiply_transposed(inner, factors_->b, factors_->scale, y, Accumulate::yes);
  return inner;
}

void TapedLinear::back(const Executor& executor, const TapeRows& rows, In x, In inner, In dy,
                       Out dx, Accumulate accumulate) const {
  const TrainingOps& ops = executor.training();
  ops.linear_back(dy, base_.weight, dx, accumulate);
  if (factors_ == nullptr) return;
  ops.add_outer(dy, inner, factors_->scale, factors_->b_gradient);
  const Matrix by_inner = executor.allocate(dy.rows, factors_->rank());
  ops.multiply(dy, factors_->b, factors_->scale, by_inner);
  if (!drops(rows)) {
    ops.add_outer(by_inner, x, 1, factors_->a_gradient);
    ops.multiply(by_inner, factors_->a, 1, dx, Accumulate::yes);
    return;
  }
  const Matrix seen = dropped(executor, rows, x);
  ops.add_outer(by_inner, seen, 1, factors_->a_gradient);
  ops.multiply(by_inner, factors_->a, 1, seen);
  ops.drop_out(seen, keys_of(*factors_, rows), factors_->dropout, seen);
  executor.add(dx, seen);
}

}  // namespace qwb
