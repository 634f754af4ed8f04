// Products of calibration: operands of many rows are rounded to bf16, sums are f32.
#include <algorithm>

#include "lib/exec/cuda/calibration_interface.h"
#include "lib/exec/cuda/executor.h"

namespace qwb {
namespace {

constexpr int64_t kRoundedSlab = int64_t{256} << 20;  // bytes of a weight that are ready at a time

bool is_rounded(const cuda::StoredWeight& w) {
  return w.form == cuda::Form::dense && w.number == cuda::Number::bf16 && w.in_out == 0 &&
         w.in % cuda::kPartColumns == 0;
}

}  // namespace

void CudaExecutor::rounded_rows(In x, const Affine& module, Out y, bool add) const {
  const cuda::StoredWeight& weight = weight_of(module.weight).stored;
  const cuda::Functions& f = gpu_.functions();
  const int64_t columns = ceil_div(weight.in, cuda::kPartColumns) * cuda::kPartColumns;
  const auto parts = [&](uint16_t* data, int64_t rows) {
    cuda::Parts made = {};
    made.data = data, made.rows = rows, made.columns = columns, made.count = 1;
    return made;
  };
  const Matrix rows = allocate(x.rows, columns / 2, MemoryKind::scratch);
  const cuda::Parts inputs = parts(reinterpret_cast<uint16_t*>(rows.view().data), x.rows);
  run("linear", f.split, view(x), inputs);
  const auto multiply = [&](const cuda::Parts& slab, int64_t first) {
    const In bias = module.bias.empty() ? In() : module.bias.column_range(first, slab.rows);
    run("linear", f.calibration->round_product, inputs, slab, view(bias).data,
        view(y.column_range(first, slab.rows)), add ? 1 : 0);
  };
  if (is_rounded(weight)) {
    auto* codes = const_cast<unsigned char*>(weight.codes);  // only read
    return multiply(parts(reinterpret_cast<uint16_t*>(codes), weight.out), 0);
  }
  const int64_t step = std::clamp<int64_t>(kRoundedSlab / 2 / columns, 1, weight.out);
  const Matrix room = allocate(step, columns / 2, MemoryKind::scratch);
  for (int64_t first = 0; first < weight.out; first += step) {
    const int64_t count = std::min(step, weight.out - first);
    const cuda::Parts slab = parts(reinterpret_cast<uint16_t*>(room.view().data), count);
    run("linear", f.dequantize_parts, &weight, first, slab);
    multiply(slab, first);
  }
}

}  // namespace qwb
