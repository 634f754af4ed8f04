// H made ready for GPTQ's solver (CalibrationOps::gptq_rows).
#pragma once

#include <string>
#include <vector>

#include "lib/base/stop.h"
#include "lib/exec/calibration.h"
#include "lib/exec/executor.h"
#include "lib/quantize/solve/column_order.h"

namespace qwb {

struct GptqSettings {
  GridSettings grid;
  ColumnOrder order = ColumnOrder::group_aware;
  double damping = 0.01;     // of the mean of diag(H), added to the diagonal
  bool scale_search = true;  // weighted by H_ii
  int sweeps = 0;            // of coordinate descent afterwards
};

// H in the order of the work, damped and factorized, in the executor's memory.
struct PreparedMoments {
  std::vector<int64_t> order;     // order[position] = column
  std::vector<float> importance;  // by position: H_ii
  Matrix upper, inverses, diagonal;
  UpperFactor factor() const { return {upper, inverses, diagonal}; }
  // The one that made it positive definite: four times the asked one per failed attempt.
  double damping = 0;
  int attempts = 0;          // 1 if the first damping sufficed
  int64_t dead_columns = 0;  // channels that were 0 on every calibration token
};

// What a module's settings and prepared moments say of the work on its rows.
GptqTask gptq_task(const GptqSettings& settings, const PreparedMoments& moments);

// hessian [columns, columns], symmetric. A dead column (H_ii = 0) gets the mean of the diagonal and
// so is rounded by itself, like every column if H is all zero. Throws failed, naming the module, on
// NaN, Inf or a negative diagonal, and if a damping of 10 is not enough.
PreparedMoments prepare_moments(const Executor& executor, In hessian, const GptqSettings& settings,
                                const std::string& module, const StopToken& stop = {});

}  // namespace qwb
