#include "lib/quantize/encode/kept_values.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/codec/dense.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/tensor/small_numbers.h"

namespace qwb {
namespace {

constexpr char kOtherScales[] = "use --scale-dtype bf16 or f32, or leave this module unquantized";

// The groups of every row whose scales are coarse; none for most modules.
std::vector<uint8_t> coarse_groups(const IntegerGrid& grid) {
  const std::vector<float> scales = read_floats(grid.scales, "scales");
  std::vector<uint8_t> coarse(scales.size());
  bool any = false;
  for (size_t i = 0; i < scales.size(); ++i) {
    coarse[i] = is_coarse_scale(scales[i], grid.scales.dtype, grid.bits) ? 1 : 0;
    any = any || coarse[i] != 0;
  }
  if (!any) coarse.clear();
  return coarse;
}

// The share of the weight's squares that is lost in groups with coarse scales.
double lost_to_scales(const ModuleTask& task, const Weight& weight, const IntegerGrid& grid,
                      const std::vector<uint8_t>& coarse) {
  const int64_t in = weight.in, groups = grid.scales.shape.at(1);
  std::vector<ErrorSum> sums(static_cast<size_t>(weight.out));
  for_rows_out_in(task, [&](int64_t first, int64_t last, const float* rows) {
    FloatBuffer stored(in);
    for (int64_t o = first; o < last; ++o) {
      const float* row = rows + (o - first) * in;
      dequantize_rows(weight, o, o + 1, stored.data());
      ErrorSum& sum = sums[o];
      for (int64_t i = 0; i < in; ++i) {
        const bool counts = coarse[o * groups + grid.group(i)] != 0;
        sum.add(row[i], counts ? stored[i] : row[i]);
      }
    }
  });
  return relative_error(sums);
}

// Statistics in f32: only values below its normal numbers are lost.
bool has_tiny_statistics(const QuantizedTensor& tensor) {
  const auto absmax = tensor.parts.find("absmax");
  if (absmax == tensor.parts.end() || absmax->second.dtype() != DType::f32) return false;
  const std::vector<float> values = read_floats(absmax->second.view(), "absmax");
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return value < 2 * std::numeric_limits<float>::min(); });
}

}  // namespace

ModuleResult quantize_module(const Method& method, const ModuleTask& task,
                             const Settings& settings) {
  ModuleResult result = method.quantize(task, settings);
  const std::string& name = task.info.name;
  const Weight weight = result.tensor.view();
  if (const auto* dense = weight.as<DenseWeight>()) {
    if (dense->values.dtype != task.info.dtype)
      require_floats_kept(result.weight_error, dense->values.dtype, name, "choose bf16 or f32");
  } else if (const auto* grid = weight.as<IntegerGrid>()) {
    const std::vector<uint8_t> coarse = coarse_groups(*grid);
    if (!coarse.empty())
      require_codes_kept(lost_to_scales(task, weight, *grid, coarse), grid->bits,
                         std::string(dtype_name(grid->scales.dtype)) + " scales", name,
                         kOtherScales);
  } else if (has_tiny_statistics(result.tensor)) {
    require_codes_kept(result.weight_error, weight.code_bits(), "F32 statistics", name,
                       "leave this module unquantized");
  }
  return result;
}

}  // namespace qwb
