// Rows of logits compared, at every length around the vectors' sizes. Tolerance 1e-12 of numbers
// near ten: f64 sums of up to 200 terms in another order.
#include "lib/exec/cpu/divergence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/base/rng.h"

namespace qwb {
namespace {

double log_sum(const std::vector<float>& x) {
  const double largest = static_cast<double>(*std::max_element(x.begin(), x.end()));
  double sum = 0;
  for (const float v : x) sum += std::exp(static_cast<double>(v) - largest);
  return largest + std::log(sum);
}

TEST(RowDivergence, IsTheDefinition) {
  Rng rng(1);
  for (int64_t count = 1; count < 200; count = count < 40 ? count + 1 : count + 13) {
    std::vector<float> a, b;
    for (int64_t i = 0; i < count; ++i) {
      a.push_back(static_cast<float>(20 * rng.uniform() - 5));
      b.push_back(static_cast<float>(static_cast<double>(a.back()) + 0.1 * rng.uniform() + 30));
    }
    const int64_t target = count / 2;
    const RowDivergence row = row_divergence(a.data(), b.data(), count, target);
    const double la = log_sum(a), lb = log_sum(b);
    double kl = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double p = static_cast<double>(a[i]) - la, q = static_cast<double>(b[i]) - lb;
      kl += std::exp(p) * (p - q);
    }
    EXPECT_NEAR(row.kl, kl, 1e-12) << count;
    EXPECT_NEAR(row.base_loss, la - static_cast<double>(a[static_cast<size_t>(target)]), 1e-12);
    EXPECT_NEAR(row.other_loss, lb - static_cast<double>(b[static_cast<size_t>(target)]), 1e-12);
    EXPECT_EQ(row.base_top, std::max_element(a.begin(), a.end()) - a.begin());
    EXPECT_EQ(row.other_top, std::max_element(b.begin(), b.end()) - b.begin());
    EXPECT_TRUE(row.finite);
  }
}

TEST(RowDivergence, TiesGoToTheLowestAndExtremesAreHeld) {
  std::vector<float> a(70, 0.0f), b(70, 0.0f);
  a[3] = a[69] = 1;
  b[50] = b[20] = 300;
  b[0] = -300;
  const RowDivergence row = row_divergence(a.data(), b.data(), 70, 0);
  EXPECT_EQ(row.base_top, 3);
  EXPECT_EQ(row.other_top, 20);
  EXPECT_TRUE(std::isfinite(row.kl));
  EXPECT_NEAR(row.other_loss, 600 + std::log(2.0), 1e-9);
  EXPECT_EQ(row_divergence(a.data(), a.data(), 70, 5).kl, 0);
}

TEST(RowDivergence, NaNAndInfinityAreSeenEverywhere) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    for (const size_t place : {0u, 17u, 36u}) {
      std::vector<float> a(37, 1.0f), b(37, 2.0f);
      b[place] = bad;
      EXPECT_FALSE(row_divergence(a.data(), b.data(), 37, 1).finite);
      EXPECT_FALSE(row_divergence(b.data(), a.data(), 37, 1).finite);
    }
  }
}

}  // namespace
}  // namespace qwb
