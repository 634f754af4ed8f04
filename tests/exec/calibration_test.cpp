// The operations of calibration against their definitions in f64. Whole solvers are tested with the
// methods that use them (tests/quantize).
//
// Tolerances: sums of k products in f32 err by about sqrt(k) 2^-24 of the sum of magnitudes (k up
// to 331 here: 2e-6 of it, and 1e-5 is allowed); bf16 operands add 2^-8 each; f16 rows keep 2^-11
// of the row's largest.
#include "lib/exec/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "tests/exec/executor_helper.h"

namespace qwb {
namespace {

std::vector<float> spread_values(int64_t count, uint64_t seed, float size = 1) {
  Rng rng(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(size * (2 * static_cast<float>(rng.uniform()) - 1));
  return values;
}

// sum over rows of a[r, i] b[r, j], and of its magnitudes.
std::pair<double, double> plain_product(In a, In b, int64_t i, int64_t j) {
  double sum = 0, magnitude = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    const double product =
        static_cast<double>(a.data[r * a.columns + i]) * b.data[r * b.columns + j];
    sum += product;
    magnitude += std::abs(product);
  }
  return {sum, magnitude};
}

TEST(Calibration, MomentsOfSeveralBatches) {
  for (const Executor* executor : {&reference_executor(), &fast_executor(), &bf16_executor()}) {
    const double close = executor->products() == Products::bf16 ? 1e-2 : 1e-5;
    const int64_t n = 71, m = 19;
    const auto x = spread_values(331 * n, 1), aims = spread_values(331 * m, 2);
    std::vector<float> h(n * n), cross(m * n);
    const auto sums = executor->calibration().moment_sums();
    for (int64_t first = 0; first < 331; first += 200) {
      const int64_t rows = std::min<int64_t>(200, 331 - first);
      sums->add(rows_of(x, n).row_range(first, rows), rows_of(h, n),
                rows_of(aims, m).row_range(first, rows), rows_of(cross, n));
    }
    executor->calibration().mirror(rows_of(h, n));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const auto [sum, magnitude] = plain_product(rows_of(x, n), rows_of(x, n), i, j);
        ASSERT_NEAR(h[i * n + j], sum, close * magnitude);
        ASSERT_EQ(h[i * n + j], h[j * n + i]);
        if (i >= m) continue;
        const auto [product, size] = plain_product(rows_of(aims, m), rows_of(x, n), i, j);
        ASSERT_NEAR(cross[i * n + j], product, close * size);
      }
    }
  }
}

TEST(Calibration, HalfRowsKeepElevenBitsOfEveryRow) {
  const CalibrationOps& ops = fast_executor().calibration();
  const int64_t rows = 7, columns = 37;
  std::vector<float> x = spread_values(rows * columns, 3);
  for (int64_t r = 0; r < rows; ++r) {  // 0, and sizes far outside of f16
    for (int64_t c = 0; c < columns; ++c)
      x[r * columns + c] *= r == 0 ? 0 : std::pow(10.0f, static_cast<float>(4 * r - 16));
  }
  std::vector<std::byte> halves(rows * columns * 2);
  std::vector<float> scales(rows), back(x.size());
  ops.to_halves(rows_of(std::as_const(x), columns), {halves.data(), scales.data()});
  ops.from_halves({halves.data(), scales.data()}, rows_of(back, columns));
  for (int64_t k = 0; k < rows * columns; ++k) {
    const float size = std::pow(10.0f, static_cast<float>(4 * (k / columns) - 16));
    ASSERT_NEAR(back[k], x[k], size * 0x1p-11f) << k;
  }
}

TEST(Calibration, MovesAndSubtractsRows) {
  const CalibrationOps& ops = fast_executor().calibration();
  const int64_t columns = 5;
  const auto x = spread_values(9 * columns, 4), row = spread_values(columns, 5);
  const std::vector<int64_t> kept = {0, 3, 4, 8};
  std::vector<float> moved = x, less = x, none = x;
  ops.compact(kept, rows_of(moved, columns));
  ops.subtract_row(rows_of(less, columns), rows_of(row, columns));
  ops.subtract(rows_of(none, columns), rows_of(x, columns));
  std::vector<double> sums(columns, 1.0), magnitudes(columns);
  ops.add_columns(rows_of(x, columns), Summands::values, sums);
  ops.add_columns(rows_of(x, columns), Summands::magnitudes, magnitudes);
  for (int64_t c = 0; c < columns; ++c) {
    double sum = 1, magnitude = 0;
    for (int64_t r = 0; r < 9; ++r) {
      const int64_t k = r * columns + c;
      if (r < std::ssize(kept)) {
        EXPECT_EQ(moved[k], x[kept[r] * columns + c]);
      }
      EXPECT_EQ(less[k], x[k] - row[c]);
      EXPECT_EQ(none[k], 0);
      sum += x[k];
      magnitude += std::abs(x[k]);
    }
    EXPECT_EQ(sums[c], sum);
    EXPECT_EQ(magnitudes[c], magnitude);
  }
}

TEST(Calibration, MeansAndScalesLeaveMoments) {
  const CalibrationOps& ops = fast_executor().calibration();
  const std::vector<float> m = {4, -2, 1, 0.5f, 3, -1}, square = {4, 2, 2, -1};
  std::vector<float> left = m, scaled(4), cleared = square;
  const std::vector<double> a = {2, -4}, b = {1, 3, -2};
  ops.take_out_means(rows_of(left, 3), a, b, 8);
  for (int64_t k = 0; k < 6; ++k) EXPECT_EQ(left[k], m[k] - a[k / 3] * b[k % 3] / 8);
  ops.scale_moments(rows_of(square, 2), std::vector<float>{2, 0.5f}, rows_of(scaled, 2));
  EXPECT_EQ(scaled, (std::vector<float>{1, 2, 2, -4}));
  EXPECT_EQ(ops.diagonal(rows_of(square, 2)), (std::vector<float>{4, -1}));
  ops.clear_negative_diagonal(rows_of(cleared, 2));
  EXPECT_EQ(cleared, (std::vector<float>{4, 2, 2, 0}));
  const std::vector<double> forms =
      ops.quadratic_forms(std::vector<float>{1, 2, 0, 1}, rows_of(square, 2));
  EXPECT_EQ(forms, (std::vector<double>{4 + 8 - 4, -1}));
}

// A positive definite H of n columns, one of them dead, and its factor in reversed order.
struct FactorProblem {
  int64_t n;
  std::vector<float> h, upper, inverses, diagonal;
  std::vector<int64_t> order;
  std::string module = "a.module";

  explicit FactorProblem(int64_t columns) : n(columns), h(n * n), upper(n * n), order(n) {
    inverses.resize(ceil_div(n, kFactorBlock) * kFactorBlock * kFactorBlock);
    diagonal.resize(inverses.size());
    std::iota(order.rbegin(), order.rend(), int64_t{0});
    const auto x = spread_values(3 * n * n, 6);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j)
        h[i * n + j] =
            i == 3 || j == 3
                ? 0
                : static_cast<float>(plain_product(rows_of(x, n), rows_of(x, n), i, j).first);
    }
  }
  bool factorize(double minimum_pivot) {
    return fast_executor().calibration().factorize(
        rows_of(std::as_const(h), n), {order, 100, 2, minimum_pivot, module, {}},
        {rows_of(upper, n), rows_of(inverses, kFactorBlock), rows_of(diagonal, kFactorBlock)});
  }
  double damped(int64_t i, int64_t j) const {
    const double value = h[order[i] * n + order[j]];
    return i != j ? value : (value == 0 ? 100 : value) + 2;
  }
};

TEST(Calibration, FactorTimesItsTransposeIsTheDampedMatrix) {
  FactorProblem p(300);
  const int64_t n = p.n;
  ASSERT_TRUE(p.factorize(0.5));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      double sum = 0;
      for (int64_t k = j; k < n; ++k)
        sum += static_cast<double>(p.upper[i * n + k]) * p.upper[j * n + k];
      ASSERT_NEAR(sum, p.damped(i, j), 1e-2) << i << " " << j;  // of a diagonal of 300
    }
    const int64_t first = i / kFactorBlock * kFactorBlock, end = std::min(n, first + kFactorBlock);
    for (int64_t j = first; j < first + kFactorBlock; ++j) {
      const double value = p.diagonal[i * kFactorBlock + j - first];
      ASSERT_NEAR(value, j < n ? p.damped(i, j) : 0, 1e-4);
      double identity = 0;
      for (int64_t k = first; k < end && j < n; ++k)
        identity +=
            static_cast<double>(p.inverses[i * kFactorBlock + k - first]) * p.upper[k * n + j];
      ASSERT_NEAR(identity, i == j ? 1 : 0, 1e-5);
    }
  }
}

TEST(Calibration, FactorsRefuseSmallPivotsAndWhatIsNotFinite) {
  FactorProblem p(140);
  EXPECT_FALSE(p.factorize(1e6));
  p.h[5 * 140 + 7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT([&] { p.factorize(0.5); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("a.module")));
}

}  // namespace
}  // namespace qwb
