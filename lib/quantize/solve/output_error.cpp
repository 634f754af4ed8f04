#include "lib/quantize/solve/output_error.h"

#include <algorithm>
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/exec/calibration.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/quantize/encode/module_weight.h"

namespace qwb {
namespace {

constexpr int64_t kSharedRows = 64;  // of W, and as many of W - Q, share one pass over H

}  // namespace

double output_error(const ModuleTask& task, const QuantizedTensor& quantized) {
  const int64_t out = task.info.out, in = task.info.in;
  FloatBuffer stored(checked_mul(out, in, task.info.name));
  const Weight view = quantized.view();
  dequantize(view, stored.data(), task.context.threads);
  ModuleTask again = task;
  again.folded = nullptr;
  again.info.dtype = DType::f32;
  again.info.orientation = view.orientation;
  again.weight = {DType::f32,
                  view.orientation == Orientation::out_in ? Shape{out, in} : Shape{in, out},
                  {reinterpret_cast<const std::byte*>(stored.data()),
                   static_cast<size_t>(stored.size()) * sizeof(float)}};
  const FloatBuffer weight = read_out_in(task);
  if (view.orientation == Orientation::in_out) stored = read_out_in(again);
  std::vector<ErrorSum> sums(static_cast<size_t>(ceil_div(out, kSharedRows)));
  parallel_ranges(task.context, out, kSharedRows, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin, count = rows * in;
    FloatBuffer both(2 * count);
    for (int64_t k = 0; k < count; ++k) {
      both[k] = weight[begin * in + k] - stored[begin * in + k];
      both[count + k] = weight[begin * in + k];
    }
    const auto forms =
        task.moments->executor->calibration().quadratic_forms(both.span(), task.moments->hessian);
    ErrorSum& sum = sums[begin / kSharedRows];
    for (int64_t r = 0; r < rows; ++r) {
      // A form of rounding errors may come out below zero where H is singular.
      sum.error += std::max(0.0, forms[r]);
      sum.norm += std::max(0.0, forms[rows + r]);
    }
  });
  const double error = relative_error(sums);
  if (!std::isfinite(error)) {
    throw Error(ErrorKind::failed, "the error of the output is not finite", task.info.name,
                "the moments overflow f32");
  }
  return error;
}

}  // namespace qwb
