// Method "awq" (Lin et al. 2023, arXiv 2306.00978): channels that matter are scaled up before they
// are rounded (awq_search.h), then ranges are clipped where that lowers the error of the output
// (CalibrationOps::clip_rows).
#include <algorithm>
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/exec/calibration.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/method.h"
#include "lib/quantize/solve/awq_search.h"

namespace qwb {
namespace {

constexpr int kClippingPasses = 5;  // of clipping: one of both ends, four of each end by itself

// Sums over a tile of rows.
struct AwqTileErrors {
  ErrorSum weights, outputs;
  double rounding = 0;  // of the outputs, by plain rounding
  int64_t clipped = 0;
};

In checked_hessian(const ModuleTask& task) {
  const In hessian = required_hessian(task);
  for (const float value : task.moments->executor->calibration().diagonal(hessian)) {
    if (!std::isfinite(value))
      throw Error(ErrorKind::failed, "the moments of the inputs hold NaN or Inf", task.info.name);
  }
  return hessian;
}

// What rounding the weights of the checkpoint, without any scale, loses on the same inputs: rows
// [begin, end).
void plain_differences(const ModuleTask& task, const float* weight, int64_t begin, int64_t end,
                       const GridSettings& grid, float* difference) {
  const int64_t in = task.info.in;
  static const FoldedScales none;
  const FoldedScales& folded = task.folded == nullptr ? none : *task.folded;
  std::vector<float> original(static_cast<size_t>(in));
  for (int64_t o = begin; o < end; ++o) {
    const float row = folded.rows.empty() ? 1.0f : folded.rows[o];
    const auto column = [&](int64_t i) {
      return folded.columns.empty() ? 1.0f : folded.columns[i];
    };
    for (int64_t i = 0; i < in; ++i) original[i] = weight[o * in + i] * row / column(i);
    float* out = difference + (o - begin) * in;
    rounding_difference(original.data(), in, nullptr, grid, task.info.name, out);
    for (int64_t i = 0; i < in; ++i) out[i] *= column(i) / row;
  }
}

Json details_of(const std::vector<AwqTileErrors>& tiles, double groups) {
  std::vector<ErrorSum> rounding;
  int64_t clipped = 0;
  for (const AwqTileErrors& tile : tiles) {
    rounding.push_back({tile.rounding, tile.outputs.norm});
    clipped += tile.clipped;
  }
  return {{"rounding_error", relative_error(rounding)},
          {"clipped_groups", static_cast<double>(clipped) / groups}};
}

class Awq : public Method {
 public:
  std::string name() const override { return "awq"; }
  std::string summary() const override {
    return "integer grid, channels scaled by what the activations show, 2 to 8 bits";
  }
  int version() const override { return 2; }
  std::vector<Parameter> parameters() const override {
    std::vector<Parameter> all = grid_parameters("f16", false);
    all.push_back({.name = "scale_channels",
                   .kind = Parameter::Kind::boolean,
                   .fallback = true,
                   .help = "scale channels, the scales folded into the norms and modules before"});
    all.push_back(
        {.name = "clip",
         .kind = Parameter::Kind::choice,
         .fallback = "all",
         .choices = {"off", "values", "all"},
         .help =
             "shrink ranges where the output gains: nowhere, everywhere but in queries and keys, "
             "everywhere"});
    return all;
  }
  void check(const Settings& settings) const override { check_grid_settings(settings, name()); }
  bool needs_calibration() const override { return true; }
  bool scales_inputs(const Settings& settings) const override {
    return json_bool(settings, "scale_channels", "method awq");
  }
  InputScales scale_inputs(const InputGroupTask& group) const override {
    return search_scales(group);
  }
  double bits(const Settings& settings) const override {
    return static_cast<double>(json_int(settings, "bits", "method awq"));
  }
  WeightLayout layout(const ModuleInfo& module, const Settings& settings) const override {
    return grid_layout(module, settings);
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;
};

// Of rows [begin, end) by plain rounding.
double plain_error(const ModuleTask& task, const FloatBuffer& weight, int64_t begin, int64_t end,
                   const GridSettings& grid) {
  const FloatBuffer plain((end - begin) * task.info.in);
  plain_differences(task, weight.data(), begin, end, grid, plain.data());
  double sum = 0;
  // A form of rounding errors may come out below zero where H is singular.
  for (const double form :
       task.moments->executor->calibration().quadratic_forms(plain.span(), task.moments->hessian))
    sum += std::max(0.0, form);
  return sum;
}

void report(const std::vector<AwqTileErrors>& tiles, const ModuleInfo& info, double groups,
            ModuleResult& result) {
  std::vector<ErrorSum> weights, outputs;
  for (const AwqTileErrors& tile : tiles) {
    weights.push_back(tile.weights);
    outputs.push_back(tile.outputs);
  }
  result.weight_error = relative_error(weights);
  result.output_error = relative_error(outputs);
  if (!std::isfinite(*result.output_error)) {
    throw Error(ErrorKind::failed, "the error of the output is not finite", info.name,
                "the moments overflow f32");
  }
  result.details = details_of(tiles, groups);
}

ModuleResult Awq::quantize(const ModuleTask& task, const Settings& settings) const {
  const ModuleInfo& info = task.info;
  const GridSettings grid = grid_settings(info, settings);
  const In hessian = checked_hessian(task);
  const FloatBuffer weight = read_out_in(task);
  ModuleResult result;
  result.tensor = QuantizedTensor(layout(info, settings));
  const int64_t in = info.in, groups = grid.groups(in);
  std::vector<AwqTileErrors> tiles(static_cast<size_t>(ceil_div(info.out, kRowLanes)));
  const ClipTask clip{
      grid, unclipped_rows(task, settings), kClippingPasses, hessian, info.name, task.context.stop};
  task.moments->executor->calibration().clip_rows(
      clip, weight.span(), [&](const ClippedRows& rows) {
        tiles[rows.first / kRowLanes] = {
            rows.weights, rows.outputs,
            plain_error(task, weight, rows.first, rows.first + rows.count, grid), rows.clipped};
        for (int64_t r = 0; r < rows.count; ++r)
          store_grid_row(result.tensor, grid, rows.first + r, rows.codes.data() + r * in,
                         rows.grids.data() + r * groups);
      });
  report(tiles, info, static_cast<double>(info.out * groups), result);
  return result;
}

}  // namespace

int64_t unclipped_rows(const ModuleTask& task, const Settings& settings) {
  const std::string clip = json_string(settings, "clip", task.info.name);
  if (clip == "off") return task.info.out;
  return clip == "all" ? 0 : task.query_key_rows;
}

std::unique_ptr<Method> make_awq() {
  return std::make_unique<Awq>();
}

}  // namespace qwb
