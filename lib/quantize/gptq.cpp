// Method "gptq": integer grids chosen with second-order error compensation (gptq_solver.h). Conv1D
// weights are transposed on the way in.
#include <algorithm>
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/quantize/gptq_solver.h"
#include "lib/quantize/method_list.h"
#include "lib/quantize/module_weight.h"

namespace qwb {
namespace {

// Coordinate descent gains nothing measurable after the fourth pass.
constexpr int kSweeps = 4;

bool follows_original(const Settings& settings) {
  return json_string(settings, "refine", "method gptq") == "full";
}

GptqSettings gptq_settings(const ModuleInfo& module, const Settings& settings) {
  GptqSettings gptq;
  gptq.grid = grid_settings(module, settings);
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

// Everything that the tiles of a module share.
struct Job {
  const ModuleInfo& info;
  const GptqSettings& gptq;
  const Moments& moments;
  const PreparedMoments& prepared;
  const FloatBuffer& weight;
};

// Errors of a tile, squared and summed: of the weights against W, of the output on the calibration
// inputs against its aim, for the result and for plain rounding.
struct TileErrors {
  ErrorSum weights, outputs, rounding;
  int64_t rounded_rows = 0;
};

// aim - RTN(weight), the grid covering each group's largest weight.
void round_plainly(const float* weight, const float* aim, const GptqSettings& gptq, int64_t columns,
                   const std::string& module, uint8_t* codes, Grid* grids, float* difference) {
  for (int64_t begin = 0, g = 0; begin < columns; begin += gptq.grid.group_size, ++g) {
    const int64_t count = std::min(gptq.grid.group_size, columns - begin);
    grids[g] = make_grid(weight + begin, count, gptq.grid, module);
    round_to_grid(weight + begin, count, grids[g], gptq.grid.max_code(), codes + begin);
    for (int64_t i = begin; i < begin + count; ++i)
      difference[i] = aim[i] - grid_value(codes[i], grids[g]);
  }
}

// Measures a tile against plain rounding, from one pass over H; a row that rounding serves better
// is rounded.
TileErrors judge(const Job& job, const float* weight, int64_t rows, SolvedRows& solved) {
  const int64_t n = job.info.in, groups = job.gptq.grid.groups(n);
  FloatBuffer forms_of(3 * rows * n);
  float* rounding = forms_of.data() + rows * n;
  std::vector<uint8_t> codes(static_cast<size_t>(rows * n));
  std::vector<Grid> grids(static_cast<size_t>(rows * groups));
  std::copy_n(solved.difference.data(), rows * n, forms_of.data());
  for (int64_t r = 0; r < rows; ++r) {
    round_plainly(weight + r * n, solved.aim.data() + r * n, job.gptq, n, job.info.name,
                  codes.data() + r * n, grids.data() + r * groups, rounding + r * n);
  }
  std::copy_n(solved.aim.data(), rows * n, forms_of.data() + 2 * rows * n);
  const std::vector<double> forms =
      quadratic_forms(forms_of.data(), 3 * rows, job.moments.hessian, n);
  TileErrors errors;
  for (int64_t r = 0; r < rows; ++r) {
    // A form of rounding errors may come out below zero where H is singular.
    const auto form = [&](int64_t kind) {
      return std::max(0.0, forms[static_cast<size_t>(kind * rows + r)]);
    };
    double error = form(0);
    if (form(1) < error) {
      error = form(1);
      ++errors.rounded_rows;
      std::copy_n(codes.data() + r * n, n, solved.codes.data() + r * n);
      std::copy_n(grids.data() + r * groups, groups, solved.grids.data() + r * groups);
      std::copy_n(rounding + r * n, n, solved.difference.data() + r * n);
    }
    errors.outputs.error += error;
    errors.rounding.error += form(1);
    errors.outputs.norm += form(2);
  }
  errors.rounding.norm = errors.outputs.norm;
  for (int64_t k = 0; k < rows * n; ++k)
    errors.weights.add(weight[k], solved.aim[k] - solved.difference[k]);
  return errors;
}

// What the module's bias must take up of rows [begin, begin + rows): the mean of W x* - Q x, or of
// y - Q x.
void mean_shift(const Job& job, const SolvedRows& solved, int64_t begin, int64_t rows,
                float* shift) {
  const Moments& m = job.moments;
  const int64_t n = job.info.in;
  for (int64_t r = 0; r < rows; ++r) {
    const float* weight = job.weight.data() + (begin + r) * n;
    double sum = m.wanted == nullptr ? 0 : m.wanted_mean[static_cast<size_t>(begin + r)];
    for (int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      const double value = solved.aim[r * n + i] - solved.difference[r * n + i];
      if (m.wanted == nullptr)
        sum += static_cast<double>(weight[i]) * (m.drift_mean[at] + m.input_mean[at]);
      sum -= value * m.input_mean[at];
    }
    shift[begin + r] = static_cast<float>(sum);
  }
}

// Sums over the tiles, in their order.
void report(const PreparedMoments& prepared, const std::vector<TileErrors>& tiles, float strength,
            const ModuleInfo& info, ModuleResult& result) {
  const auto total = [&](ErrorSum TileErrors::*kind) {
    std::vector<ErrorSum> pieces;
    pieces.reserve(tiles.size());
    for (const TileErrors& tile : tiles) pieces.push_back(tile.*kind);
    return relative_error(pieces);
  };
  result.weight_error = total(&TileErrors::weights);
  result.output_error = total(&TileErrors::outputs);
  if (!std::isfinite(*result.output_error)) {
    throw Error(ErrorKind::failed, "the error of the output is not finite", info.name,
                "the moments overflow f32");
  }
  int64_t rounded = 0;
  for (const TileErrors& tile : tiles) rounded += tile.rounded_rows;
  result.details = {{"damping", prepared.damping},
                    {"attempts", prepared.attempts},
                    {"dead_columns", prepared.dead_columns},
                    {"rounding_error", total(&TileErrors::rounding)},
                    {"rounded_rows", rounded}};
  if (strength > 0) result.details["correction"] = strength;
}

class Gptq : public Method {
 public:
  std::string name() const override { return "gptq"; }
  std::string summary() const override {
    return "integer grid with second-order error compensation, 2 to 8 bits";
  }
  int version() const override { return 3; }
  std::vector<Parameter> parameters() const override {
    std::vector<Parameter> all = grid_parameters("f16");
    all.push_back({"act_order",
                   Parameter::Kind::boolean,
                   false,
                   0,
                   0,
                   {},
                   "quantize columns in the order of their activations over the whole row, with "
                   "scales fixed before; "
                   "otherwise within groups"});
    all.push_back({"damping",
                   Parameter::Kind::number,
                   0.01,
                   0,
                   1,
                   {},
                   "added to diag(H), as a fraction of its mean"});
    all.push_back(
        {"scale_search",
         Parameter::Kind::boolean,
         true,
         0,
         0,
         {},
         "choose each group's scale by its weighted error instead of by its largest weight"});
    all.push_back(
        {"refine",
         Parameter::Kind::choice,
         "full",
         0,
         0,
         {"off", "codes", "full"},
         "off: GPTQ as published; codes: coordinate descent over its codes and scales; full: also "
         "aim at the original model's outputs"});
    return all;
  }
  void check(const Settings& settings) const override { check_grid_settings(settings, name()); }
  bool needs_calibration() const override { return true; }
  bool wants_reference(const Settings& settings) const override {
    return follows_original(settings);
  }
  double bits(const Settings& settings) const override {
    return static_cast<double>(json_int(settings, "bits", "method gptq"));
  }
  WeightLayout layout(const ModuleInfo& module, const Settings& settings) const override {
    return grid_layout(module, settings);
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;
};

ModuleResult Gptq::quantize(const ModuleTask& task, const Settings& settings) const {
  const ModuleInfo& info = task.info;
  const GptqSettings gptq = gptq_settings(info, settings);
  const float* hessian = required_hessian(task);
  const FloatBuffer weight = read_out_in(task);
  const PreparedMoments prepared = prepare_moments(hessian, info.in, gptq, info.name, task.context);
  const Moments& moments = *task.moments;
  const bool follow =
      follows_original(settings) && (moments.drift != nullptr || moments.wanted != nullptr);
  const Job job{info, gptq, moments, prepared, weight};
  ModuleResult result;
  result.tensor = QuantizedTensor(layout(info, settings));
  if (follow && moments.centred) result.bias_shift.resize(static_cast<size_t>(info.out));
  const int64_t groups = gptq.grid.groups(info.in);
  std::vector<TileErrors> tiles(static_cast<size_t>(ceil_div(info.out, kRowLanes)));
  parallel_ranges(task.context, info.out, kRowLanes, [&](int64_t begin, int64_t end) {
    const float* rows = weight.data() + begin * info.in;
    Correction correction;
    if (follow) {
      correction.drift = moments.drift;
      correction.hessian = hessian;
      correction.strength = correction_strength(info.in, moments.tokens);
      if (moments.wanted != nullptr) correction.wanted = moments.wanted + begin * info.in;
    }
    SolvedRows solved = solve_rows(rows, end - begin, correction, prepared, gptq, info.name);
    tiles[static_cast<size_t>(begin / kRowLanes)] = judge(job, rows, end - begin, solved);
    if (!result.bias_shift.empty())
      mean_shift(job, solved, begin, end - begin, result.bias_shift.data());
    for (int64_t o = begin; o < end; ++o) {
      store_grid_row(result.tensor, gptq.grid, o, solved.codes.data() + (o - begin) * info.in,
                     solved.grids.data() + (o - begin) * groups);
    }
  });
  report(prepared, tiles, follow ? correction_strength(info.in, moments.tokens) : 0, info, result);
  return result;
}

}  // namespace

std::unique_ptr<Method> make_gptq() {
  return std::make_unique<Gptq>();
}

}  // namespace qwb
