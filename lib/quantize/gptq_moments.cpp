// Preparing H: dead columns, the order of the columns, damping until the factorization succeeds.
#include <algorithm>
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/quantize/gptq_solver.h"

namespace qwb {
namespace {

constexpr double kLargestDamping = 10;
constexpr int64_t kRows = 64;  // rows of H per parallel item

[[noreturn]] void bad_moments(const std::string& what, const std::string& module) {
  throw Error(ErrorKind::failed, "the calibration moments hold " + what, module,
              "an earlier block may have diverged; try other calibration text or leave this module "
              "unquantized");
}

// factor.upper = H in the new order plus `added` on the diagonal; dead diagonals become `mean`.
void fill(const float* hessian, const std::vector<int64_t>& order, double mean, double added,
          UpperFactor& factor, const std::string& module, const Context& context) {
  const int64_t n = factor.size;
  parallel_ranges(context, n, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* source = hessian + order[static_cast<size_t>(i)] * n;
      float* row = factor.upper.data() + i * n;
      bool finite = true;
      for (int64_t j = 0; j < n; ++j) {
        row[j] = source[order[static_cast<size_t>(j)]];
        finite = finite && std::isfinite(row[j]);
      }
      if (!finite) bad_moments("NaN or Inf", module);
      if (row[i] == 0) {
        std::fill(row, row + n, 0.0f);
        row[i] = static_cast<float>(mean);
      }
      row[i] = static_cast<float>(row[i] + added);
    }
  });
}

void keep_diagonal(const UpperFactor& factor, const FloatBuffer& diagonal) {
  const int64_t n = factor.size;
  std::fill_n(diagonal.data(), diagonal.size(), 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t begin = i / kFactorBlock * kFactorBlock,
                  length = std::min(kFactorBlock, n - begin);
    std::copy_n(factor.upper.data() + i * n + begin, length, diagonal.data() + i * kFactorBlock);
  }
}

}  // namespace

PreparedMoments prepare_moments(const float* hessian, int64_t columns, const GptqSettings& settings,
                                const std::string& module, const Context& context) {
  PreparedMoments moments;
  std::vector<float> diagonal(static_cast<size_t>(columns));
  double sum = 0;
  for (int64_t i = 0; i < columns; ++i) {
    const float value = hessian[i * columns + i];
    if (!std::isfinite(value)) bad_moments("NaN or Inf", module);
    if (value < 0) bad_moments("a negative square", module);
    diagonal[static_cast<size_t>(i)] = value;
    sum += value;
    moments.dead_columns += value == 0 ? 1 : 0;
  }
  const int64_t live = columns - moments.dead_columns;
  const double mean = live > 0 ? sum / static_cast<double>(live) : 1.0;
  moments.order = column_order(settings.order, diagonal, settings.grid.group_size);
  for (const int64_t column : moments.order) {
    const float value = diagonal[static_cast<size_t>(column)];
    moments.importance.push_back(value == 0 ? static_cast<float>(mean) : value);
  }
  UpperFactor& factor = moments.factor;
  factor.size = columns;
  factor.upper = FloatBuffer(checked_mul(columns, columns, module));
  factor.inverses = FloatBuffer(factor.blocks() * kFactorBlock * kFactorBlock);
  moments.diagonal = FloatBuffer(factor.blocks() * kFactorBlock * kFactorBlock);
  moments.damping = settings.damping;
  for (moments.attempts = 1;; ++moments.attempts) {
    fill(hessian, moments.order, mean, moments.damping * mean, factor, module, context);
    keep_diagonal(factor, moments.diagonal);
    // No exact pivot is below the damping: a much smaller one is made of rounding errors.
    if (factorize_upper(factor, 0.25 * moments.damping * mean, context)) return moments;
    moments.damping = std::max(moments.damping, 1e-4) * 4;
    if (moments.damping > kLargestDamping) break;
  }
  throw Error(ErrorKind::failed,
              "the calibration moments are not positive definite, even with a damping of " +
                  Json(moments.damping / 4).dump(),
              module, "use more calibration text, or quantize this module with rtn");
}

}  // namespace qwb
