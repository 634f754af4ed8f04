// Method "gptq": integer grids chosen with second-order error compensation (gptq_solver.h). Conv1D weights
// are transposed on the way in.
#include <algorithm>
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/quantize/gptq_solver.h"
#include "lib/quantize/method_list.h"
#include "lib/quantize/module_weight.h"

namespace qwb {
namespace {

GptqSettings gptq_settings(const ModuleInfo& module, const Settings& settings) {
  GptqSettings gptq;
  gptq.grid = grid_settings(module, settings);
  gptq.order =
      json_bool(settings, "act_order", module.name) ? ColumnOrder::static_groups : ColumnOrder::group_aware;
  gptq.damping = json_number(settings, "damping", module.name);
  gptq.scale_search = json_bool(settings, "scale_search", module.name);
  return gptq;
}

const float* checked_hessian(const ModuleTask& task) {
  if (task.moments == nullptr || task.moments->hessian == nullptr || task.moments->tokens <= 0) {
    throw Error(ErrorKind::failed, "no calibration token reached this module", task.info.name,
                "use more calibration text, or quantize this module with rtn");
  }
  return task.moments->hessian;
}

// Squared error and norm of a tile's output on the calibration inputs, from one pass over H.
ErrorSum output_error(const float* difference, const float* weight, int64_t rows, const float* hessian,
                      int64_t columns) {
  FloatBuffer both(2 * rows * columns);
  std::copy_n(difference, rows * columns, both.data());
  std::copy_n(weight, rows * columns, both.data() + rows * columns);
  const std::vector<double> forms = quadratic_forms(both.data(), 2 * rows, hessian, columns);
  ErrorSum sum;
  for (int64_t r = 0; r < rows; ++r) {
    // A form of rounding errors may come out below zero where H is singular.
    sum.error += std::max(0.0, forms[static_cast<size_t>(r)]);
    sum.norm += std::max(0.0, forms[static_cast<size_t>(rows + r)]);
  }
  return sum;
}

class Gptq : public Method {
 public:
  std::string name() const override { return "gptq"; }
  std::string summary() const override {
    return "integer grid with second-order error compensation, 2 to 8 bits";
  }
  int version() const override { return 1; }
  std::vector<Parameter> parameters() const override {
    std::vector<Parameter> all = grid_parameters("f16");
    all.push_back(
        {"act_order",
         Parameter::Kind::boolean,
         false,
         0,
         0,
         {},
         "quantize columns in the order of their activations over the whole row, with scales fixed before; "
         "otherwise within groups"});
    all.push_back(
        {"damping", Parameter::Kind::number, 0.01, 0, 1, {}, "added to diag(H), as a fraction of its mean"});
    all.push_back({"scale_search",
                   Parameter::Kind::boolean,
                   true,
                   0,
                   0,
                   {},
                   "choose each group's scale by its weighted error instead of by its largest weight"});
    return all;
  }
  void check(const Settings& settings) const override { check_grid_settings(settings, name()); }
  bool needs_calibration() const override { return true; }
  double bits(const Settings& settings) const override {
    return static_cast<double>(json_int(settings, "bits", "method gptq"));
  }
  Storage storage(const ModuleInfo& module, const Settings& settings) const override {
    return grid_storage(module, settings);
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;
};

ModuleResult Gptq::quantize(const ModuleTask& task, const Settings& settings) const {
  const ModuleInfo& info = task.info;
  const GptqSettings gptq = gptq_settings(info, settings);
  const float* hessian = checked_hessian(task);
  const FloatBuffer weight = read_out_in(task);
  const PreparedMoments moments = prepare_moments(hessian, info.in, gptq, info.name);
  ModuleResult result;
  result.tensor = empty_tensor(info, storage(info, settings));
  set_grid_parameters(result.tensor, gptq.grid);
  const int64_t groups = gptq.grid.groups(info.in);
  const auto tiles = static_cast<size_t>(ceil_div(info.out, kRowLanes));
  std::vector<ErrorSum> weight_errors(tiles), output_errors(tiles);
  parallel_ranges(info.out, kRowLanes, [&](int64_t begin, int64_t end) {
    const float* rows = weight.data() + begin * info.in;
    const SolvedRows solved = solve_rows(rows, end - begin, moments, gptq, info.name);
    ErrorSum& weights = weight_errors[static_cast<size_t>(begin / kRowLanes)];
    for (int64_t k = 0; k < (end - begin) * info.in; ++k)
      weights.add(rows[k], rows[k] - solved.difference[k]);
    output_errors[static_cast<size_t>(begin / kRowLanes)] =
        output_error(solved.difference.data(), rows, end - begin, hessian, info.in);
    for (int64_t o = begin; o < end; ++o) {
      store_grid_row(result.tensor, gptq.grid, o, solved.codes.data() + (o - begin) * info.in,
                     solved.grids.data() + (o - begin) * groups);
    }
  });
  result.weight_error = relative_error(weight_errors);
  result.output_error = relative_error(output_errors);
  if (!std::isfinite(*result.output_error)) {
    throw Error(ErrorKind::failed, "the error of the output is not finite", info.name,
                "the moments overflow f32");
  }
  result.details = {
      {"damping", moments.damping}, {"attempts", moments.attempts}, {"dead_columns", moments.dead_columns}};
  return result;
}

}  // namespace

std::unique_ptr<Method> make_gptq() {
  return std::make_unique<Gptq>();
}

}  // namespace qwb
