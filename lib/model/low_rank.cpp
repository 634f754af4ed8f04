#include "lib/model/low_rank.h"

#include "lib/base/error.h"

namespace qwb {
namespace {

Matrix factor_on_device(const Executor& executor, int64_t rows, int64_t columns,
                        std::span<const float> values) {
  if (rows < 1 || columns < 1 || std::ssize(values) != rows * columns)
    throw Error(ErrorKind::failed, "the factors of a low-rank module do not fit each other");
  Matrix matrix = executor.allocate(rows, columns, MemoryKind::weights);
  executor.copy(In(values.data(), rows, columns), matrix);
  return matrix;
}

}  // namespace

LowRank::LowRank(const Executor& executor, const Factors& factors)
    : a_(factor_on_device(executor, factors.rank, factors.in, factors.a)),
      b_(factor_on_device(executor, factors.out, factors.rank, factors.b)),
      prepared_a_(executor.prepare_values(a_)),
      prepared_b_(executor.prepare_values(b_)),
      scale_(factors.scale) {}

void LowRank::add_to(const Executor& executor, const Rows& x, Out y) const {
  const Matrix inner = executor.allocate(x.values.rows, rank());
  executor.linear(x, {prepared_a_}, inner);
  // Of the few values between the factors, so that neither factor is rounded again.
  if (scale_ != 1) executor.scale(inner, scale_);
  executor.linear(Rows(inner, x.pieces), {prepared_b_}, y, Accumulate::yes);
}

}  // namespace qwb
