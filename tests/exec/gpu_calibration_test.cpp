// The GPU's operations of calibration. What is exact by definition has the processor's bits; sums
// are compared with the processor's or with f64 (calibration_test.cpp argues the tolerances).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "tests/exec/gpu_calibration_helper.h"

namespace qwb {
namespace {

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

}  // namespace
}  // namespace qwb
