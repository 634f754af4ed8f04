// Method "rtn": round each weight to the nearest point of its group's integer grid (formulas in
// integer_grid.h). No calibration.
#include <algorithm>

#include "lib/quantize/encode/integer_grid.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/method.h"

namespace qwb {
namespace {

class Rtn : public Method {
 public:
  std::string name() const override { return "rtn"; }
  std::string summary() const override {
    return "round to nearest on an integer grid, 2 to 8 bits";
  }
  int version() const override { return 1; }
  std::vector<Parameter> parameters() const override {
    // Plain rounding of an f32 model is the textbook's only with the textbook's scales: 16-bit ones
    // move the demo GPT-2, which has huge outliers, from 118.0 to 117.0 (f16) or 114.6 (bf16).
    return grid_parameters("auto");
  }
  void check(const Settings& settings) const override { check_grid_settings(settings, name()); }
  double bits(const Settings& settings) const override {
    return static_cast<double>(json_int(settings, "bits", "method rtn"));
  }
  WeightLayout layout(const ModuleInfo& module, const Settings& settings) const override {
    return grid_layout(module, settings);
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;
};

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
