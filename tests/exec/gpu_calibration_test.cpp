// The GPU's operations of calibration. What is exact by definition has the processor's bits; sums
// are compared with the processor's or with f64 (calibration_test.cpp argues the tolerances); of
// solvers, whose rounding may fall the other way after a sum of another order, the error that they
// leave and the share of codes that differ.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/exec/calibration.h"
#include "tests/exec/executor_helper.h"
#include "tests/exec/gpu_helper.h"

namespace qwb {
namespace {

std::vector<float> gpu_values(int64_t count, uint64_t seed, float size = 1) {
  Rng rng(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(size * (2 * static_cast<float>(rng.uniform()) - 1));
  return values;
}

class GpuCalibration : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (gpu() != nullptr && rounding_ == nullptr)
      rounding_ = make_cuda_calibration_executor(0, Threads());
  }
  static const Executor& rounding() { return *rounding_; }
  static const CalibrationOps& there() { return gpu()->calibration(); }
  static const CalibrationOps& here() { return fast_executor().calibration(); }
  static Matrix upload(const std::vector<float>& values, int64_t columns) {
    Matrix matrix = gpu()->allocate(std::ssize(values) / columns, columns);
    gpu()->copy(rows_of(values, columns), matrix);
    return matrix;
  }

 private:
  static inline std::shared_ptr<const Executor> rounding_;
};

TEST_F(GpuCalibration, HalfRowsHaveTheProcessorsBits) {
  for (const int64_t columns : {1, 37, 256, 1500}) {
    const int64_t rows = 7;
    std::vector<float> x = gpu_values(rows * columns, 3);
    for (int64_t k = 0; k < rows * columns; ++k)
      x[k] *= k / columns == 0 ? 0 : std::pow(10.0f, static_cast<float>(12 * (k / columns) - 44));
    std::vector<std::byte> halves(rows * columns * 2), expected_halves(halves.size());
    std::vector<float> scales(rows), expected_scales(rows), back(x.size()), expected(x.size());
    here().to_halves(rows_of(std::as_const(x), columns),
                     {expected_halves.data(), expected_scales.data()});
    here().from_halves({expected_halves.data(), expected_scales.data()},
                       rows_of(expected, columns));
    const Matrix values = upload(x, columns), made = gpu()->allocate(rows, columns);
    there().to_halves(values, {halves.data(), scales.data()});
    EXPECT_EQ(halves, expected_halves);
    EXPECT_EQ(scales, expected_scales);
    there().from_halves({halves.data(), scales.data()}, made);
    EXPECT_EQ(gpu()->download(made), expected);
    // The same on the GPU's memory.
    const Matrix kept = gpu()->allocate(rows, columns), kept_scales = gpu()->allocate(rows, 1);
    gpu()->fill(made, 0);
    const Halves on_gpu{reinterpret_cast<std::byte*>(kept.view().data), kept_scales.view().data,
                        gpu()->device()};
    there().to_halves(values, on_gpu);
    there().from_halves(on_gpu, made);
    EXPECT_EQ(gpu()->download(made), expected);
  }
}

TEST_F(GpuCalibration, WhatIsExactHasTheProcessorsBits) {
  for (const int64_t n : {1, 5, 131, 300}) {
    const int64_t rows = 9;
    const auto x = gpu_values(rows * n, 4), y = gpu_values(rows * n, 5),
               square = gpu_values(n * n, 6);
    const std::vector<int64_t> kept = {0, 3, 4, 8};
    const auto same = [&](const char* name, const std::vector<float>& from, int64_t columns,
                          const auto& act) {
      std::vector<float> expected = from;
      act(here(), fast_executor(), rows_of(expected, columns));
      const Matrix made = upload(from, columns);
      act(there(), *gpu(), made.view());
      EXPECT_EQ(gpu()->download(made), expected) << name << " " << n;
    };
    // An operand beside the one that changes.
    const auto beside = [&](const Executor& executor, const std::vector<float>& values,
                            int64_t columns, Matrix& room) {
      if (executor.device() == nullptr) return rows_of(values, columns);
      room = upload(values, columns);
      return In(room);
    };
    Matrix room;
    same("subtract", x, n, [&](const CalibrationOps& ops, const Executor& e, Out made) {
      ops.subtract(made, beside(e, y, n, room));
    });
    same("subtract_row", x, n, [&](const CalibrationOps& ops, const Executor& e, Out made) {
      ops.subtract_row(made, beside(e, y, n, room).row_range(2, 1));
    });
    same("compact", x, n,
         [&](const CalibrationOps& ops, const Executor&, Out made) { ops.compact(kept, made); });
    same("mirror", square, n,
         [&](const CalibrationOps& ops, const Executor&, Out made) { ops.mirror(made); });
    same("clear", square, n, [&](const CalibrationOps& ops, const Executor&, Out made) {
      ops.clear_negative_diagonal(made);
    });
    const std::vector<double> left(y.begin(), y.begin() + rows), right(x.begin(), x.begin() + n);
    same("take_out_means", x, n, [&](const CalibrationOps& ops, const Executor&, Out made) {
      ops.take_out_means(made, left, right, 7);
    });
    std::vector<float> scales(right.begin(), right.end());
    for (float& scale : scales) scale = 1 + scale / 2;
    same("scale_moments", square, n, [&](const CalibrationOps& ops, const Executor& e, Out made) {
      ops.scale_moments(beside(e, square, n, room), scales, made);
    });
    for (const Summands summands : {Summands::values, Summands::magnitudes}) {
      std::vector<double> expected(n, 0.5), made(n, 0.5);
      here().add_columns(rows_of(x, n), summands, expected);
      there().add_columns(upload(x, n), summands, made);
      EXPECT_EQ(made, expected);
    }
    EXPECT_EQ(there().diagonal(upload(square, n)), here().diagonal(rows_of(square, n)));
  }
}

TEST_F(GpuCalibration, MomentsOfSeveralBatches) {
  for (const Executor* executor : {gpu().get(), &rounding()}) {
    const double close = executor->products() == Products::bf16 ? 1e-2 : 1e-5;
    for (const auto& [n, m] : {std::pair<int64_t, int64_t>{71, 19}, {300, 140}, {1, 1}}) {
      const auto x = gpu_values(331 * n, 1), aims = gpu_values(331 * m, 2);
      const Matrix x_there = upload(x, n), aims_there = upload(aims, m);
      std::vector<std::vector<float>> runs;
      for (int run = 0; run < 2; ++run) {
        const Matrix h = gpu()->allocate(n, n), cross = gpu()->allocate(m, n);
        executor->fill(h, 0), executor->fill(cross, 0);
        const auto sums = executor->calibration().moment_sums();
        for (int64_t first = 0; first < 331; first += 200) {
          const int64_t rows = std::min<int64_t>(200, 331 - first);
          sums->add(x_there.view().row_range(first, rows), h,
                    aims_there.view().row_range(first, rows), cross);
        }
        executor->calibration().mirror(h);
        runs.push_back(executor->download(h)), runs.push_back(executor->download(cross));
      }
      EXPECT_EQ(runs[0], runs[2]);
      EXPECT_EQ(runs[1], runs[3]);
      for (int64_t i = 0; i < n + m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0, magnitude = 0;
          for (int64_t r = 0; r < 331; ++r) {
            const double other = i < n ? x[r * n + i] : aims[r * m + i - n];
            sum += other * x[r * n + j], magnitude += std::abs(other * x[r * n + j]);
          }
          ASSERT_NEAR(i < n ? runs[0][i * n + j] : runs[1][(i - n) * n + j], sum,
                      close * magnitude);
        }
      }
    }
  }
}

// The forward pass of calibration: operands rounded to bf16, sums in f32, over tails of tiles.
TEST_F(GpuCalibration, ProductsWithRoundedOperands) {
  if (rounding().products() != Products::bf16) GTEST_SKIP() << "this GPU does not round to bf16";
  for (const auto& [rows, in, out] :
       {std::array<int64_t, 3>{9, 40, 7}, {200, 300, 270}, {130, 1000, 300}}) {
    const auto x = gpu_values(rows * in, 7), w = gpu_values(out * in, 8), bias = gpu_values(out, 9);
    const Matrix x_there = upload(x, in), w_there = upload(w, in), b_there = upload(bias, out),
                 y = upload(gpu_values(rows * out, 10), out);
    const std::vector<float> before = gpu()->download(y);
    const Prepared weight = rounding().prepare_values(w_there);
    rounding().linear(In(x_there), {weight, b_there}, y, Accumulate::yes);
    const std::vector<float> made = gpu()->download(y);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = static_cast<double>(before[r * out + o]) + bias[o], magnitude = 1;
        for (int64_t k = 0; k < in; ++k) {
          const double product = static_cast<double>(x[r * in + k]) * w[o * in + k];
          sum += product, magnitude += std::abs(product);
        }
        ASSERT_NEAR(made[r * out + o], sum, 4e-3 * magnitude);
        if (rows == 9 && o == 3) {
          EXPECT_NE(made[r * out + o], static_cast<float>(sum));
        }
      }
    }
  }
}

// H of inputs whose channels differ in size and hang together, one of them dead.
std::vector<float> moments_of(int64_t n, uint64_t seed) {
  const int64_t tokens = 2 * n + 3;
  auto x = gpu_values(tokens * n, seed);
  std::vector<float> h(n * n);
  std::vector<double> row(n);
  for (int64_t t = 0; t < tokens; ++t) {
    float* values = x.data() + t * n;
    for (int64_t i = 1; i < n; ++i) values[i] = (values[i] + 0.6f * values[i - 1]);
    for (int64_t i = 0; i < n; ++i)
      values[i] *= i == 3 ? 0 : 0.5f + 3 * static_cast<float>(i * 7 % 11 == 0);
  }
  for (int64_t i = 0; i < n; ++i) {
    std::fill(row.begin(), row.end(), 0);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t j = 0; j < n; ++j) row[j] += static_cast<double>(x[t * n + i]) * x[t * n + j];
    }
    std::copy(row.begin(), row.end(), h.begin() + i * n);
  }
  return h;
}

// A factor in the memory of an executor.
struct FactorOf {
  FactorOf(const Executor& executor, int64_t n)
      : upper(executor.allocate(n, n)),
        inverses(executor.allocate(ceil_div(n, kFactorBlock) * kFactorBlock, kFactorBlock)),
        diagonal(executor.allocate(inverses.rows(), kFactorBlock)) {}
  UpperFactor view() const { return {upper, inverses, diagonal}; }
  Matrix upper, inverses, diagonal;
};

TEST_F(GpuCalibration, FactorsAreTheProcessors) {
  for (const int64_t n : {5, 71, 128, 300, 513}) {
    std::vector<float> h = moments_of(n, 11);
    std::vector<int64_t> order(n);
    std::iota(order.rbegin(), order.rend(), int64_t{0});
    const std::string module = "a.module";
    const FactorOf expected(fast_executor(), n), made(*gpu(), n);
    ASSERT_TRUE(here().factorize(rows_of(std::as_const(h), n), {order, 100, 2, 0.5, module, {}},
                                 expected.view()));
    ASSERT_TRUE(there().factorize(upload(h, n), {order, 100, 2, 0.5, module, {}}, made.view()));
    const auto close = [&](const Matrix& a, const Matrix& b, double tolerance, const char* name) {
      const auto first = fast_executor().download(a), second = gpu()->download(b);
      double largest = 0;
      for (const float value : first) largest = std::max<double>(largest, std::abs(value));
      for (size_t k = 0; k < first.size(); ++k)
        ASSERT_NEAR(second[k], first[k], tolerance * largest) << name << " " << n << " " << k;
    };
    close(expected.diagonal, made.diagonal, 0, "diagonal");
    close(expected.upper, made.upper, 1e-5, "upper");
    close(expected.inverses, made.inverses, 1e-4, "inverses");
    EXPECT_FALSE(there().factorize(upload(h, n), {order, 100, 2, 1e6, module, {}}, made.view()));
    h[(n - 1) * n] = NAN;
    EXPECT_THAT(
        [&] {
          there().factorize(upload(h, n), {order, 100, 2, 0.5, module, {}}, made.view());
        },
        testing::ThrowsMessage<Error>(testing::HasSubstr("a.module")));
    StopSource stop;
    stop.request();
    EXPECT_THROW(
        there().factorize(upload(h, n), {order, 100, 2, 0.5, module, stop.token()}, made.view()),
        Error);
  }
}

TEST_F(GpuCalibration, QuadraticForms) {
  for (const int64_t n : {5, 300, 1100}) {
    auto h = gpu_values(n * n, 12);
    here().mirror(rows_of(h, n));
    const auto x = gpu_values(3 * n, 13);
    const auto made = there().quadratic_forms(x, upload(h, n));
    for (int64_t r = 0; r < 3; ++r) {
      double sum = 0, magnitude = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          const double product = static_cast<double>(x[r * n + i]) * h[i * n + j] * x[r * n + j];
          sum += product, magnitude += std::abs(product);
        }
      }
      EXPECT_NEAR(made[r], sum, 1e-6 * magnitude);
    }
  }
}

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

TEST_F(GpuCalibration, GptqIsTheProcessors) {
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
TEST_F(GpuCalibration, RowsOfGptqDoNotMeet) {
  GptqProblem p{"many", 300, 200, {4, 128, true, DType::f16}, false, true, 4};
  const auto all = solve_problem(*gpu(), p).codes();
  p.rows = 7;
  const auto some = solve_problem(*gpu(), p).codes();
  EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
}

TEST_F(GpuCalibration, GptqStopsAndNamesScalesThatDoNotFit) {
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

TEST_F(GpuCalibration, ClippingIsTheProcessors) {
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
