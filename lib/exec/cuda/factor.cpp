// The factor of a damped H on a GPU, and what is solved with it.
#include <algorithm>
#include <vector>

#include "lib/base/error.h"
#include "lib/exec/cuda/calibration.h"

namespace qwb {
namespace {

[[noreturn]] void moments_not_finite(const std::string& module) {
  throw Error(ErrorKind::failed, "the calibration moments hold NaN or Inf", module,
              "an earlier block may have diverged; try other calibration text or leave this module "
              "unquantized");
}

cuda::Factors factors_of(const CudaExecutor& executor, const UpperFactor& factor) {
  return {executor.dense(factor.upper).data, executor.dense(factor.inverses).data,
          executor.dense(factor.diagonal).data, factor.size()};
}

// What lies above a diagonal block, times its inverse, transposed; and what that takes out of the
// rest.
void eliminate(const CudaExecutor& executor, const UpperFactor& factor, int64_t begin, Out solved) {
  if (begin == 0) return;
  const int64_t length = solved.columns, b = begin / kFactorBlock;
  const Out upper = factor.upper;
  const Out panel = upper.row_range(0, begin).column_range(begin, length);
  const In inverse =
      In(factor.inverses).row_range(b * kFactorBlock, length).column_range(0, length);
  cuda_multiply(executor, panel, inverse, solved, {});
  executor.copy(solved, panel);
  cuda_multiply(executor, solved, solved, upper.row_range(0, begin).column_range(0, begin),
                {.add = true, .upper = true, .factor = -1});
}

}  // namespace

bool cuda_factorize(const CudaExecutor& executor, In h, const Damping& damping,
                    const UpperFactor& factor) {
  const cuda::CalibrationFunctions& f = *executor.functions().calibration;
  const int64_t n = factor.size(), blocks = ceil_div(n, kFactorBlock);
  const std::vector<int32_t> order(damping.order.begin(), damping.order.end());
  const OnGpu<int32_t> positions(executor, std::span<const int32_t>(order));
  const OnGpu<int> bad(executor, 2);  // not finite; a pivot too small
  const OnGpu<double> room(executor, kFactorBlock * kFactorBlock);
  const cuda::Factors there = factors_of(executor, factor);
  bad.clear();
  executor.fill(factor.diagonal, 0);
  executor.run("factorize", f.fill_damped, executor.dense(h),
               static_cast<const int32_t*>(positions.data()), damping.mean, damping.added, there,
               bad.data());
  const Matrix panel =
      executor.allocate(std::max<int64_t>(n - 1, 1), kFactorBlock, MemoryKind::scratch);
  for (int64_t b = blocks - 1; b >= 0; --b) {
    damping.stop.check();
    const int64_t begin = b * kFactorBlock, length = std::min(kFactorBlock, n - begin);
    executor.run("factorize", f.factorize_block, there, b, damping.minimum_pivot, room.data(),
                 bad.data() + 1);
    eliminate(executor, factor, begin, panel.view().as(begin, length));
  }
  const std::vector<int> found = bad.download();
  if (found[0] != 0) moments_not_finite(damping.module);
  return found[1] == 0;
}

void cuda_solve(const CudaExecutor& executor, const UpperFactor& factor, Out x) {
  const int64_t n = factor.size(), blocks = ceil_div(n, kFactorBlock);
  const Matrix kept = executor.allocate(x.rows, kFactorBlock, MemoryKind::scratch);
  const In upper = factor.upper;
  const auto solve_block = [&](int64_t b, bool down) {
    const int64_t begin = b * kFactorBlock, length = std::min(kFactorBlock, n - begin);
    const Out block = x.column_range(begin, length), right = kept.view().as(x.rows, length);
    executor.copy(block, right);
    const In inverse =
        In(factor.inverses).row_range(b * kFactorBlock, length).column_range(0, length);
    cuda_multiply(executor, right, inverse, block, {.down = down});
  };
  // R y = x from the last block to the first, then R^T z = y from the first to the last.
  for (int64_t b = blocks - 1; b >= 0; --b) {
    const int64_t begin = b * kFactorBlock, length = std::min(kFactorBlock, n - begin),
                  end = begin + length;
    if (end < n)
      cuda_multiply(executor, x.column_range(end, n - end),
                    upper.row_range(begin, length).column_range(end, n - end),
                    x.column_range(begin, length), {.add = true, .factor = -1});
    solve_block(b, false);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * kFactorBlock, length = std::min(kFactorBlock, n - begin);
    if (begin > 0)
      cuda_multiply(executor, x.column_range(0, begin),
                    upper.row_range(0, begin).column_range(begin, length),
                    x.column_range(begin, length), {.down = true, .add = true, .factor = -1});
    solve_block(b, true);
  }
}

}  // namespace qwb
