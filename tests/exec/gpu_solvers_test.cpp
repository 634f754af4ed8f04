// GPTQ's and AWQ's solvers on the GPU: their rounding may fall the other way after a sum of another
// order, so the error that they leave and the share of codes that differ are compared.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "tests/exec/gpu_calibration_helper.h"

namespace qwb {
namespace {

class GpuSolvers : public GpuCalibration {};

// Results of all rows, of whichever executor.
struct AllRows {
  std::map<int64_t, GptqRows> tiles;
  std::vector<uint8_t> codes() const {
    std::vector<uint8_t> all;
    for (const auto& [first, rows] : tiles)
      all.insert(all.end(), rows.codes.begin(), rows.codes.end());
    return all;
  }
  ErrorSum sum(ErrorSum GptqRows::*which) const {
    ErrorSum all;
    for (const auto& [first, rows] : tiles) all.add(rows.*which);
    return all;
  }
};

// GPTQ on small modules in every shape of groups, orders and aims.
struct GptqProblem {
  std::string name;
  int64_t n, rows;
  GridSettings grid;
  bool static_groups = false, search = true;
  int sweeps = 0;
  bool drift = false, wanted = false, means = false;
};

AllRows solve_problem(const Executor& executor, const GptqProblem& p, StopToken stop = {}) {
  const int64_t n = p.n;
  const auto weight = gpu_values(p.rows * n, 21), h = moments_of(n, 22),
             drift = gpu_values(n * n, 23, 20), wanted = gpu_values(p.rows * n, 24, 90),
             means = gpu_values(std::max(n, p.rows), 25);
  const auto place = [&](const std::vector<float>& values) {
    Matrix matrix = executor.allocate(std::ssize(values) / n, n);
    executor.copy(rows_of(values, n), matrix);
    return matrix;
  };
  const Matrix hessian = place(h), drift_there = place(drift), wanted_there = place(wanted);
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  if (p.static_groups)
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return h[a * n + a] > h[b * n + b]; });
  std::vector<float> importance;
  for (const int64_t column : order) importance.push_back(std::max(h[column * n + column], 1.0f));
  const FactorOf factor(executor, n);
  const std::string module = "a.module";
  EXPECT_TRUE(
      executor.calibration().factorize(hessian, {order, 50, 2, 0.5, module, {}}, factor.view()));
  GptqTask task;
  task.grid = p.grid;
  task.static_groups = p.static_groups, task.scale_search = p.search, task.sweeps = p.sweeps;
  task.order = order, task.importance = importance;
  task.factor = factor.view(), task.hessian = hessian;
  if (p.drift) task.drift = drift_there;
  if (p.wanted) task.wanted = wanted_there;
  task.strength = 0.5f;
  if (p.means)
    task.means = {std::span(means).first(static_cast<size_t>(n)),
                  std::span(means).last(static_cast<size_t>(n)), means};
  task.module = module, task.stop = stop;
  AllRows all;
  std::mutex mutex;
  executor.calibration().gptq_rows(task, weight, [&](const GptqRows& rows) {
    const std::lock_guard lock(mutex);
    all.tiles[rows.first] = rows;
  });
  return all;
}

void expect_like(const GptqProblem& p, const AllRows& made, const AllRows& expected) {
  ASSERT_EQ(made.tiles.size(), expected.tiles.size());
  const auto near = [&](ErrorSum GptqRows::*which, double share, const char* name) {
    const ErrorSum a = made.sum(which), b = expected.sum(which);
    EXPECT_NEAR(a.error, b.error, share * b.error) << p.name << " " << name;
    EXPECT_NEAR(a.norm, b.norm, 1e-5 * b.norm) << p.name << " " << name;
  };
  near(&GptqRows::weights, 0.01, "weights");
  near(&GptqRows::outputs, 0.01, "outputs");
  near(&GptqRows::rounding, 1e-4, "rounding");
  const auto a = made.codes(), b = expected.codes();
  ASSERT_EQ(a.size(), b.size());
  double differ = 0;
  for (size_t k = 0; k < a.size(); ++k) differ += a[k] != b[k] ? 1 : 0;
  EXPECT_LT(differ / static_cast<double>(a.size()), 0.03) << p.name;
  for (const auto& [first, rows] : made.tiles) {
    const GptqRows& other = expected.tiles.at(first);
    ASSERT_EQ(rows.grids.size(), other.grids.size());
    ASSERT_EQ(rows.shift.size(), p.means ? static_cast<size_t>(rows.count) : 0);
    for (size_t r = 0; r < rows.shift.size(); ++r)
      EXPECT_NEAR(rows.shift[r], other.shift[r], 0.3) << p.name;
    // What is told of the weights is what codes and grids say.
    const auto weight = gpu_values(p.rows * p.n, 21);
    ErrorSum told;
    const int64_t groups = p.grid.groups(p.n);
    for (int64_t k = 0; k < rows.count * p.n; ++k) {
      const Grid& grid = rows.grids[k / p.n * groups + k % p.n / p.grid.group_size];
      told.add(weight[first * p.n + k], grid_value(rows.codes[k], grid));
    }
    EXPECT_NEAR(told.error, rows.weights.error, 1e-4 * told.error) << p.name;
  }
}

TEST_F(GpuSolvers, GptqIsTheProcessors) {
  const auto grid = [](int bits, int64_t group, bool symmetric = true, DType type = DType::f16) {
    return GridSettings{bits, group, symmetric, type};
  };
  const std::vector<GptqProblem> problems = {
      {"off", 300, 70, grid(4, 128)},
      {"short groups", 131, 5, grid(3, 7, false)},
      {"whole rows", 300, 70, grid(4, 300), false, false},
      {"across blocks", 390, 66, grid(2, 96, false, DType::bf16)},
      {"act-order", 300, 70, grid(4, 32), true},
      {"codes", 300, 130, grid(4, 64, true, DType::f32), false, true, 4},
      {"codes across", 390, 66, grid(3, 200, false), false, true, 4},
      {"codes act-order", 256, 64, grid(8, 128), true, true, 2},
      {"drift", 300, 70, grid(4, 128), false, true, 4, true, false, true},
      {"wanted", 200, 33, grid(4, 40, false), false, true, 4, false, true, true},
      {"tiny", 3, 1, grid(4, 3), false, true, 4}};
  for (const GptqProblem& p : problems) {
    const AllRows made = solve_problem(*gpu(), p);
    expect_like(p, made, solve_problem(fast_executor(), p));
    EXPECT_EQ(made.codes(), solve_problem(*gpu(), p).codes()) << p.name;
  }
}

// The bits of a row are those that it has alone.
TEST_F(GpuSolvers, RowsOfGptqDoNotMeet) {
  GptqProblem p{"many", 300, 200, {4, 128, true, DType::f16}, false, true, 4};
  const auto all = solve_problem(*gpu(), p).codes();
  p.rows = 7;
  const auto some = solve_problem(*gpu(), p).codes();
  EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
}

TEST_F(GpuSolvers, GptqStopsAndNamesScalesThatDoNotFit) {
  GptqProblem p{"stopped", 300, 70, {4, 128, true, DType::f16}};
  StopSource stop;
  stop.request();
  EXPECT_THROW(solve_problem(*gpu(), p, stop.token()), Error);
  auto weight = gpu_values(2 * 8, 31, 1e7f);
  std::vector<float> h(64, 0.0f);
  for (int64_t i = 0; i < 8; ++i) h[9 * i] = 1;
  const Matrix hessian = upload(h, 8);
  const ClipTask task{{4, 8, true, DType::f16}, 0, 1, hessian, "a.module", {}};
  EXPECT_THAT([&] { there().clip_rows(task, weight, [](const ClippedRows&) {}); },
              testing::ThrowsMessage<Error>(
                  testing::AllOf(testing::HasSubstr("a.module"), testing::HasSubstr("f16"))));
}

// Few rows take one way, many another.
TEST_F(GpuSolvers, RowsOfClippingDoNotMeet) {
  const int64_t n = 160, many = 2100, few = 70;
  const auto weight = gpu_values(many * n, 51), h = moments_of(n, 52);
  const Matrix hessian = upload(h, n);
  const ClipTask task{{4, 64, false, DType::f16}, 0, 2, hessian, "a.module", {}};
  const auto clip = [&](int64_t rows) {
    std::vector<uint8_t> codes(static_cast<size_t>(rows * n));
    there().clip_rows(
        task, std::span(weight).first(static_cast<size_t>(rows * n)), [&](const ClippedRows& done) {
          std::copy(done.codes.begin(), done.codes.end(), codes.begin() + done.first * n);
        });
    return codes;
  };
  const auto all = clip(many), some = clip(few);
  EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
}

TEST_F(GpuSolvers, ClippingIsTheProcessors) {
  for (const auto& [n, rows, group, symmetric] :
       {std::tuple<int64_t, int64_t, int64_t, bool>{300, 70, 128, false},
        {131, 33, 7, true},
        {200, 5, 200, false}}) {
    const auto weight = gpu_values(rows * n, 41), h = moments_of(n, 42);
    const GridSettings grid{4, group, symmetric, DType::f16};
    const Matrix hessian = upload(h, n);
    const auto clip = [&](const CalibrationOps& ops, In moments) {
      std::vector<ClippedRows> all;
      std::mutex mutex;
      const ClipTask task{grid, 3, 5, moments, "a.module", {}};
      ops.clip_rows(task, weight, [&](const ClippedRows& done) {
        const std::lock_guard lock(mutex);
        all.push_back(done);
      });
      std::sort(all.begin(), all.end(),
                [](const auto& a, const auto& b) { return a.first < b.first; });
      return all;
    };
    const auto made = clip(there(), hessian), expected = clip(here(), rows_of(h, n));
    ASSERT_EQ(made.size(), expected.size());
    for (size_t t = 0; t < made.size(); ++t) {
      EXPECT_NEAR(made[t].outputs.error, expected[t].outputs.error,
                  0.01 * expected[t].outputs.error);
      EXPECT_NEAR(made[t].outputs.norm, expected[t].outputs.norm, 1e-5 * expected[t].outputs.norm);
      EXPECT_NEAR(made[t].weights.error, expected[t].weights.error,
                  0.02 * expected[t].weights.error);
      EXPECT_NEAR(static_cast<double>(made[t].clipped), static_cast<double>(expected[t].clipped),
                  2 + 0.03 * static_cast<double>(expected[t].clipped));
      double differ = 0;
      for (size_t k = 0; k < made[t].codes.size(); ++k)
        differ += made[t].codes[k] != expected[t].codes[k] ? 1 : 0;
      EXPECT_LT(differ / static_cast<double>(made[t].codes.size()), 0.03);
    }
    auto scales = gpu_values(n, 43);
    for (float& scale : scales) scale = 1 + scale / 2;
    const std::string module = "a.module";
    for (const bool scaled : {false, true}) {
      const auto trial = [&](In moments) {
        return ScaleTrial{
            weight,  scaled ? std::span<const float>(scales) : std::span<const float>(),
            grid,    3,
            moments, module};
      };
      const auto near = [&](const std::vector<double>& a, const std::vector<double>& b,
                            double share) {
        ASSERT_EQ(a.size(), b.size());
        const double whole = std::accumulate(b.begin(), b.end(), 0.0);
        EXPECT_NEAR(std::accumulate(a.begin(), a.end(), 0.0), whole, share * whole);
      };
      near(there().rounded_errors(trial(hessian)), here().rounded_errors(trial(rows_of(h, n))),
           1e-4);
      near(there().clipped_errors(trial(hessian)), here().clipped_errors(trial(rows_of(h, n))),
           0.01);
    }
  }
}

}  // namespace
}  // namespace qwb
