// Rows of a module through GPTQ, and how well they came out.
#include <algorithm>
#include <utility>

#include "lib/base/parallel.h"
#include "lib/exec/cpu/float_lanes.h"
#include "lib/exec/cpu/gptq_solver.h"
#include "lib/exec/cpu/operands.h"

namespace qwb {
namespace {

// aim - RTN(weight), the grid covering each group's largest weight.
void round_plainly(const GptqTask& task, int64_t row, const float* weight, const float* aim,
                   uint8_t* codes, Grid* grids, float* difference) {
  const int64_t columns = task.factor.size(), size = task.grid.group_size;
  for (int64_t begin = 0, g = 0; begin < columns; begin += size, ++g) {
    const int64_t count = std::min(size, columns - begin);
    if (task.grid.points != GridPoints::integers) {
      grids[g] = plain_float_grid(task, row, g, weight + begin, count);
      round_to_points(weight + begin, count, grids[g].scale, task.grid.points, codes + begin);
      for (int64_t i = begin; i < begin + count; ++i)
        difference[i] = aim[i] - point_value(codes[i], task.grid.points) * grids[g].scale;
      continue;
    }
    grids[g] = make_grid(weight + begin, count, task.grid, task.module);
    round_to_grid(weight + begin, count, grids[g], task.grid.max_code(), codes + begin);
    for (int64_t i = begin; i < begin + count; ++i)
      difference[i] = aim[i] - grid_value(codes[i], grids[g]);
  }
}

// Measures a tile against plain rounding, from one pass over H; a row that rounding serves better
// is rounded.
void judge(const GptqTask& task, const float* weight, SolvedRows& solved, GptqRows& done) {
  const int64_t rows = done.count, n = task.factor.size(), groups = task.grid.groups(n);
  FloatBuffer forms_of(3 * rows * n);
  float* rounding = forms_of.data() + rows * n;
  std::vector<uint8_t> codes(static_cast<size_t>(rows * n));
  std::vector<Grid> grids(static_cast<size_t>(rows * groups));
  std::copy_n(solved.difference.data(), rows * n, forms_of.data());
  for (int64_t r = 0; r < rows; ++r) {
    round_plainly(task, done.first + r, weight + r * n, solved.aim.data() + r * n,
                  codes.data() + r * n, grids.data() + r * groups, rounding + r * n);
  }
  std::copy_n(solved.aim.data(), rows * n, forms_of.data() + 2 * rows * n);
  const std::vector<double> forms =
      quadratic_forms(forms_of.data(), 3 * rows, dense(task.hessian), n);
  for (int64_t r = 0; r < rows; ++r) {
    // A form of rounding errors may come out below zero where H is singular.
    const auto form = [&](int64_t kind) { return std::max(0.0, forms[kind * rows + r]); };
    double error = form(0);
    if (form(1) < error) {
      error = form(1);
      ++done.rounded_rows;
      std::copy_n(codes.data() + r * n, n, solved.codes.data() + r * n);
      std::copy_n(grids.data() + r * groups, groups, solved.grids.data() + r * groups);
      std::copy_n(rounding + r * n, n, solved.difference.data() + r * n);
    }
    done.outputs.error += error;
    done.rounding.error += form(1);
    done.outputs.norm += form(2);
  }
  done.rounding.norm = done.outputs.norm;
  for (int64_t k = 0; k < rows * n; ++k)
    done.weights.add(weight[k], solved.aim[k] - solved.difference[k]);
}

// What the module's bias must take up.
void mean_shift(const GptqTask& task, const float* rows, const SolvedRows& solved, GptqRows& done) {
  const GptqTask::Means& m = task.means;
  const int64_t n = task.factor.size();
  for (int64_t r = 0; r < done.count; ++r) {
    const float* weight = rows + r * n;
    double sum = task.wanted.empty() ? 0 : m.wanted[done.first + r];
    for (int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      const double value = solved.aim[r * n + i] - solved.difference[r * n + i];
      if (task.wanted.empty()) sum += static_cast<double>(weight[i]) * (m.drift[at] + m.input[at]);
      sum -= value * m.input[at];
    }
    done.shift.push_back(static_cast<float>(sum));
  }
}

}  // namespace

void gptq_rows(const GptqTask& task, std::span<const float> weight, const GptqDone& done,
               Threads threads) {
  const int64_t n = task.factor.size(), groups = task.grid.groups(n);
  parallel_ranges(Context{threads, task.stop}, std::ssize(weight) / n, kRowLanes,
                  [&](int64_t begin, int64_t end) {
                    const float* rows = weight.data() + begin * n;
                    GptqRows result{begin, end - begin, {}, {}, {}};
                    SolvedRows solved = solve_rows(task, rows, begin, end - begin);
                    judge(task, rows, solved, result);
                    if (!task.means.input.empty()) mean_shift(task, rows, solved, result);
                    result.codes = std::move(solved.codes);
                    result.codes.resize(static_cast<size_t>(result.count * n));
                    result.grids = std::move(solved.grids);
                    result.grids.resize(static_cast<size_t>(result.count * groups));
                    done(result);
                  });
}

}  // namespace qwb
