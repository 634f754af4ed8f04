// Dead columns, the order of the columns, damping until the factorization succeeds.
#include "lib/quantize/solve/gptq_moments.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/json.h"

namespace qwb {
namespace {

constexpr double kLargestDamping = 10;

[[noreturn]] void bad_moments(const std::string& what, const std::string& module) {
  throw Error(ErrorKind::failed, "the calibration moments hold " + what, module,
              "an earlier block may have diverged; try other calibration text or leave this module "
              "unquantized");
}

}  // namespace

GptqTask gptq_task(const GptqSettings& settings, const PreparedMoments& moments) {
  GptqTask task;
  task.grid = settings.grid;
  task.static_groups = settings.order == ColumnOrder::static_groups;
  task.scale_search = settings.scale_search;
  task.sweeps = settings.sweeps;
  task.order = moments.order;
  task.importance = moments.importance;
  task.factor = moments.factor();
  return task;
}

PreparedMoments prepare_moments(const Executor& executor, In hessian, const GptqSettings& settings,
                                const std::string& module, const StopToken& stop) {
  PreparedMoments moments;
  const int64_t columns = hessian.rows, blocks = ceil_div(columns, kFactorBlock);
  const std::vector<float> diagonal = executor.calibration().diagonal(hessian);
  double sum = 0;
  for (const float value : diagonal) {
    if (!std::isfinite(value)) bad_moments("NaN or Inf", module);
    if (value < 0) bad_moments("a negative square", module);
    sum += value;
    moments.dead_columns += value == 0 ? 1 : 0;
  }
  const int64_t live = columns - moments.dead_columns;
  const double mean = live > 0 ? sum / static_cast<double>(live) : 1.0;
  moments.order = column_order(settings.order, diagonal, settings.grid.group_size);
  for (const int64_t column : moments.order) {
    const float value = diagonal[column];
    moments.importance.push_back(value == 0 ? static_cast<float>(mean) : value);
  }
  moments.upper = executor.allocate(columns, columns, MemoryKind::scratch);
  moments.inverses = executor.allocate(blocks * kFactorBlock, kFactorBlock, MemoryKind::scratch);
  moments.diagonal = executor.allocate(blocks * kFactorBlock, kFactorBlock, MemoryKind::scratch);
  moments.damping = settings.damping;
  for (moments.attempts = 1;; ++moments.attempts) {
    // No exact pivot is below the damping: a much smaller one is made of rounding errors.
    const double added = moments.damping * mean;
    const Damping damping{moments.order, mean, added, 0.25 * moments.damping * mean, module, stop};
    if (executor.calibration().factorize(hessian, damping, moments.factor())) return moments;
    moments.damping = std::max(moments.damping, 1e-4) * 4;
    if (moments.damping > kLargestDamping) break;
  }
  throw Error(ErrorKind::failed,
              "the calibration moments are not positive definite, even with a damping of " +
                  Json(moments.damping / 4).dump(),
              module, "use more calibration text, or quantize this module with rtn");
}

}  // namespace qwb
