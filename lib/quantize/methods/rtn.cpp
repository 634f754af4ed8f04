// Method "rtn": round each weight to the nearest point of its group's grid, of integers
// (formulas in integer_grid.h) or of floats (float_grid.h). No calibration.
#include <algorithm>

#include "lib/base/parallel.h"
#include "lib/exec/float_grid.h"
#include "lib/quantize/encode/float_grid.h"
#include "lib/quantize/encode/integer_grid.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/methods/grid_method.h"

namespace qwb {
namespace {

class Rtn : public GridMethod {
 public:
  Rtn() : GridMethod("auto") {}
  std::string name() const override { return "rtn"; }
  std::string summary() const override {
    return "round to nearest on an integer grid, 2 to 8 bits, or on FP8, NVFP4, MXFP4";
  }
  int version() const override { return 1; }
  std::vector<Parameter> parameters() const override {
    // Plain rounding of an f32 model is the textbook's only with the textbook's scales: 16-bit ones
    // move the demo GPT-2, which has huge outliers, from 118.0 to 117.0 (f16) or 114.6 (bf16).
    std::vector<Parameter> all = grid_parameters(scale_type());
    all.push_back(grid_choice());
    return all;
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;
};

ErrorSum round_float_row(const float* row, const ModuleInfo& info, const FloatGrid& shared,
                         int64_t o, uint8_t* codes, Grid* grids) {
  const int64_t size = shared.grid.group_size, groups = shared.grid.groups(info.in);
  ErrorSum sum;
  for (int64_t begin = 0, g = 0; begin < info.in; begin += size, ++g) {
    const int64_t count = std::min(size, info.in - begin);
    grids[g] = shared.scales.empty() ? make_grid(row + begin, count, shared.grid, info.name)
                                     : Grid{shared.scales[o * groups + g], 0};
    round_to_points(row + begin, count, grids[g].scale, shared.grid.points, codes + begin);
    for (int64_t i = begin; i < begin + count; ++i)
      sum.add(row[i], point_value(codes[i], shared.grid.points) * grids[g].scale);
  }
  return sum;
}

// Scales of FP8 may be the whole tensor's: its magnitudes come first.
ModuleResult round_to_floats(const ModuleTask& task, const Settings& settings) {
  const ModuleInfo& info = task.info;
  const FloatBuffer weight = read_out_in(task);
  const FloatGrid shared = float_grid(info, settings, weight.data());
  ModuleResult result;
  result.tensor = QuantizedTensor(float_grid_layout(info, settings));
  store_shared_scale(result.tensor, shared);
  std::vector<ErrorSum> errors(static_cast<size_t>(info.out));
  parallel_ranges(task.context, info.out, 16, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> codes(static_cast<size_t>(info.in));
    std::vector<Grid> grids(static_cast<size_t>(shared.grid.groups(info.in)));
    for (int64_t o = begin; o < end; ++o) {
      errors[o] =
          round_float_row(weight.data() + o * info.in, info, shared, o, codes.data(), grids.data());
      store_float_row(result.tensor, shared, o, codes.data(), grids.data());
    }
  });
  result.weight_error = relative_error(errors);
  return result;
}

ErrorSum round_row(const float* row, const ModuleInfo& info, const GridSettings& settings,
                   uint8_t* codes, Grid* grids) {
  ErrorSum sum;
  for (int64_t begin = 0, g = 0; begin < info.in; begin += settings.group_size, ++g) {
    const int64_t count = std::min(settings.group_size, info.in - begin);
    grids[g] = make_grid(row + begin, count, settings, info.name);
    round_to_grid(row + begin, count, grids[g], settings.max_code(), codes + begin);
    sum.add(step_errors(row + begin, codes + begin, count, grids[g].scale, grids[g].zero));
  }
  return sum;
}

ModuleResult Rtn::quantize(const ModuleTask& task, const Settings& settings) const {
  if (is_float_grid(settings)) return round_to_floats(task, settings);
  const ModuleInfo& info = task.info;
  const GridSettings grid = grid_settings(info, settings);
  ModuleResult result;
  result.tensor = QuantizedTensor(layout(info, settings));
  std::vector<ErrorSum> errors(static_cast<size_t>(info.out));
  for_rows_out_in(task, [&](int64_t first, int64_t last, const float* rows) {
    std::vector<uint8_t> codes(static_cast<size_t>(info.in));
    std::vector<Grid> grids(static_cast<size_t>(grid.groups(info.in)));
    for (int64_t o = first; o < last; ++o) {
      errors[o] = round_row(rows + (o - first) * info.in, info, grid, codes.data(), grids.data());
      store_grid_row(result.tensor, grid, o, codes.data(), grids.data());
    }
  });
  result.weight_error = relative_error(errors);
  return result;
}

}  // namespace

std::unique_ptr<Method> make_rtn() {
  return std::make_unique<Rtn>();
}

}  // namespace qwb
