// Method "gptq": grids of integers or floats chosen with second-order error compensation
// (CalibrationOps::gptq_rows). Conv1D weights are transposed on the way in.
#include <algorithm>
#include <cmath>

#include "lib/quantize/encode/float_grid.h"
#include "lib/quantize/encode/integer_grid.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/methods/grid_method.h"
#include "lib/quantize/solve/gptq_moments.h"

namespace qwb {
namespace {

// Coordinate descent gains nothing measurable after the fourth pass.
constexpr int kSweeps = 4;

bool follows_original(const Settings& settings) {
  return json_string(settings, "refine", "method gptq") == "full";
}

GptqSettings gptq_settings(const ModuleInfo& module, const Settings& settings,
                           const GridSettings& grid) {
  GptqSettings gptq;
  gptq.grid = grid;
  gptq.order = json_bool(settings, "act_order", module.name) ? ColumnOrder::static_groups
                                                             : ColumnOrder::group_aware;
  gptq.damping = json_number(settings, "damping", module.name);
  gptq.scale_search = json_bool(settings, "scale_search", module.name);
  gptq.sweeps = json_string(settings, "refine", module.name) == "off" ? 0 : kSweeps;
  return gptq;
}

// A regression on `columns` inputs from so many tokens explains about columns / tokens of pure
// noise: that share is not believed. (Demo llama with 4 windows of 128 tokens: perplexity 35.9 with
// the full correction, below the published GPTQ's with this.)
float correction_strength(int64_t columns, int64_t tokens) {
  return tokens <= columns ? 0.0f : 1.0f - static_cast<float>(columns) / static_cast<float>(tokens);
}

// Sums over every 64 rows, in their order.
struct TileErrors {
  explicit TileErrors(int64_t rows)
      : weights(static_cast<size_t>(ceil_div(rows, kRowLanes))),
        outputs(weights.size()),
        rounding(weights.size()),
        rounded_rows(weights.size()) {}
  void put(const GptqRows& rows) {
    const auto tile = static_cast<size_t>(rows.first / kRowLanes);
    weights[tile] = rows.weights;
    outputs[tile] = rows.outputs;
    rounding[tile] = rows.rounding;
    rounded_rows[tile] = rows.rounded_rows;
  }
  std::vector<ErrorSum> weights, outputs, rounding;
  std::vector<int64_t> rounded_rows;
};

void report(const PreparedMoments& prepared, const TileErrors& tiles, float strength,
            const ModuleInfo& info, ModuleResult& result) {
  result.weight_error = relative_error(tiles.weights);
  result.output_error = relative_error(tiles.outputs);
  if (!std::isfinite(*result.output_error)) {
    throw Error(ErrorKind::failed, "the error of the output is not finite", info.name,
                "the moments overflow f32");
  }
  int64_t rounded = 0;
  for (const int64_t rows : tiles.rounded_rows) rounded += rows;
  result.details = {{"damping", prepared.damping},
                    {"attempts", prepared.attempts},
                    {"dead_columns", prepared.dead_columns},
                    {"rounding_error", relative_error(tiles.rounding)},
                    {"rounded_rows", rounded}};
  if (strength > 0) result.details["correction"] = strength;
}

class Gptq : public GridMethod {
 public:
  Gptq() : GridMethod("f16") {}
  std::string name() const override { return "gptq"; }
  std::string summary() const override {
    return "a grid of integers or floats with second-order error compensation, 2 to 8 bits";
  }
  int version() const override { return 3; }
  std::vector<Parameter> parameters() const override {
    std::vector<Parameter> all = grid_parameters(scale_type());
    all.push_back(
        {.name = "act_order",
         .kind = Parameter::Kind::boolean,
         .fallback = false,
         .help = "quantize columns in the order of their activations over the whole row, with "
                 "scales fixed before; "
                 "otherwise within groups"});
    all.push_back({.name = "damping",
                   .kind = Parameter::Kind::number,
                   .fallback = 0.01,
                   .minimum = 0,
                   .maximum = 1,
                   .help = "added to diag(H), as a fraction of its mean"});
    all.push_back(
        {.name = "scale_search",
         .kind = Parameter::Kind::boolean,
         .fallback = true,
         .help =
             "choose each group's scale by its weighted error instead of by its largest weight"});
    all.push_back({.name = "refine",
                   .kind = Parameter::Kind::choice,
                   .fallback = "full",
                   .choices = {"off", "codes", "full"},
                   .help = "off: GPTQ as published; codes: coordinate descent over its codes and "
                           "scales; full: also "
                           "aim at the original model's outputs"});
    all.push_back(grid_choice());
    return all;
  }
  bool needs_calibration() const override { return true; }
  bool wants_reference(const Settings& settings) const override {
    return follows_original(settings);
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;
};

// Everything that the rows of a module share.
GptqTask rows_task(const ModuleTask& task, const GptqSettings& gptq,
                   const PreparedMoments& prepared, bool follow) {
  const Moments& moments = *task.moments;
  GptqTask shared = gptq_task(gptq, prepared);
  shared.hessian = moments.hessian;
  shared.module = task.info.name;
  shared.stop = task.context.stop;
  if (!follow) return shared;
  shared.drift = moments.drift;
  shared.wanted = moments.wanted;
  shared.strength = correction_strength(task.info.in, moments.tokens);
  if (moments.centred) shared.means = {moments.input_mean, moments.drift_mean, moments.wanted_mean};
  return shared;
}

// Integers, or floats with what rows share.
FloatGrid grid_of(const ModuleTask& task, const Settings& settings, const float* weight) {
  if (!is_float_grid(settings)) return {grid_settings(task.info, settings), 1, {}};
  if (task.moments->executor->device() != nullptr) {
    throw Error(ErrorKind::unsupported, "gptq onto a grid of floats runs on the processor alone",
                task.info.name, "leave out --device, or choose --grid int");
  }
  return float_grid(task.info, settings, weight);
}

ModuleResult Gptq::quantize(const ModuleTask& task, const Settings& settings) const {
  const ModuleInfo& info = task.info;
  const In hessian = required_hessian(task);
  const FloatBuffer weight = read_out_in(task);
  const Moments& moments = *task.moments;
  const FloatGrid grid = grid_of(task, settings, weight.data());
  const GptqSettings gptq = gptq_settings(info, settings, grid.grid);
  const PreparedMoments prepared =
      prepare_moments(*moments.executor, hessian, gptq, info.name, task.context.stop);
  const bool follow =
      follows_original(settings) && (!moments.drift.empty() || !moments.wanted.empty());
  GptqTask shared = rows_task(task, gptq, prepared, follow);
  shared.scales = grid.scales;
  ModuleResult result;
  result.tensor = QuantizedTensor(layout(info, settings));
  store_shared_scale(result.tensor, grid);
  if (!shared.means.input.empty()) result.bias_shift.resize(static_cast<size_t>(info.out));
  const int64_t groups = gptq.grid.groups(info.in);
  TileErrors tiles(info.out);
  moments.executor->calibration().gptq_rows(shared, weight.span(), [&](const GptqRows& rows) {
    tiles.put(rows);
    if (!rows.shift.empty())
      std::copy(rows.shift.begin(), rows.shift.end(), result.bias_shift.begin() + rows.first);
    for (int64_t r = 0; r < rows.count; ++r) {
      const uint8_t* codes = rows.codes.data() + r * info.in;
      const Grid* grids = rows.grids.data() + r * groups;
      if (gptq.grid.points == GridPoints::integers) {
        store_grid_row(result.tensor, gptq.grid, rows.first + r, codes, grids);
      } else {
        store_float_row(result.tensor, grid, rows.first + r, codes, grids);
      }
    }
  });
  report(prepared, tiles, shared.strength, info, result);
  return result;
}

}  // namespace

std::unique_ptr<Method> make_gptq() {
  return std::make_unique<Gptq>();
}

}  // namespace qwb
