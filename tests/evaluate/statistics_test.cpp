// Coverage: an interval that says 95 % must hold the truth in 93 to 97 % of samples of the
// population it was made for. Samples here have what losses have: tokens that depend on their
// neighbours (every window has an effect of its own), and for divergences a skew.
#include "lib/evaluate/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/base/rng.h"

namespace qwb {
namespace {

double normal(Rng& rng) {  // Box and Muller
  const double radius = std::sqrt(-2 * std::log(1 - rng.uniform()));
  return radius * std::cos(6.283185307179586 * rng.uniform());
}

enum class Kind { losses, differences, divergences, documents };

// One sample of `windows` windows; `truth` is the population's value.
std::vector<Unit> sample_units(Kind kind, int64_t windows, Rng& rng, double& truth) {
  constexpr double kTokens = 200;
  std::vector<Unit> units;
  for (int64_t w = 0; w < windows; ++w) {
    const double effect = normal(rng), noise = normal(rng) / std::sqrt(kTokens);
    if (kind == Kind::losses) {
      truth = 3;
      units.push_back({kTokens * (3 + 0.25 * effect + 2.8 * noise), kTokens});
    } else if (kind == Kind::differences) {
      truth = 0.02;
      units.push_back({kTokens * (0.02 + 0.01 * effect + 0.2 * noise), kTokens});
    } else if (kind == Kind::divergences) {
      truth = 0.01 * std::exp(0.4 * 0.4 / 2);
      units.push_back({kTokens * 0.01 * std::exp(0.4 * effect) * (1 + 1.5 * noise), kTokens});
    } else {
      truth = 3;  // documents of very different lengths
      const double tokens = 50 + 400 * rng.uniform();
      units.push_back({tokens * (3 + 0.25 * effect + 2.8 * noise), tokens});
    }
  }
  return units;
}

double coverage(Kind kind, int64_t windows, uint64_t seed) {
  constexpr int64_t kSamples = 1200;
  std::vector<char> held(kSamples);
  parallel_for(Threads(), kSamples, [&](int64_t s) {
    Rng rng(seed * 1'000'003 + static_cast<uint64_t>(s));
    double truth = 0;
    const std::vector<Unit> units = sample_units(kind, windows, rng, truth);
    const Interval interval = estimate_mean(units).interval.value();
    held[s] = interval.low <= truth && truth <= interval.high;
  });
  double count = 0;
  for (const char h : held) count += h;
  return count / kSamples;
}

TEST(SlowStatistics, IntervalsCoverWhatTheySay) {
  const std::vector<std::pair<Kind, std::vector<int64_t>>> cases = {
      {Kind::losses, {2, 5, 8, 20, 50}},
      {Kind::differences, {3, 8, 30}},
      {Kind::divergences, {8, 12, 30}},
      {Kind::documents, {5, 10, 30}}};
  uint64_t seed = 1;
  for (const auto& [kind, counts] : cases) {
    for (const int64_t windows : counts) {
      const double share = coverage(kind, windows, seed++);
      EXPECT_GE(share, 0.93) << "kind " << static_cast<int>(kind) << ", " << windows << " windows";
      EXPECT_LE(share, 0.97) << "kind " << static_cast<int>(kind) << ", " << windows << " windows";
    }
  }
}

TEST(Statistics, TheErrorIsThatOfTheWindows) {
  std::vector<Unit> units;
  for (const double mean : {1.0, 2.0, 3.0, 4.0, 2.5, 1.5, 3.5, 2.0, 3.0})
    units.push_back({10 * mean, 10});
  const Estimate estimate = estimate_mean(units);
  EXPECT_NEAR(estimate.value, 2.5, 1e-12);
  double squares = 0;
  for (const Unit& unit : units) squares += (unit.mean() - 2.5) * (unit.mean() - 2.5);
  const double exact = std::sqrt(squares / 8 / 9);
  EXPECT_NEAR(estimate.standard_error.value() / exact, 1, 0.05);            // 2000 resamples: 1.6 %
  EXPECT_EQ(estimate_mean(units).standard_error, estimate.standard_error);  // the seed is fixed
  const Estimate one = estimate_mean(std::vector<Unit>{{6, 2}});
  EXPECT_EQ(one.value, 3);
  EXPECT_FALSE(one.standard_error || one.interval);
  EXPECT_THROW(estimate_mean({}), Error);
  EXPECT_THROW(estimate_mean(std::vector<Unit>{{1, 0}}), Error);
}

TEST(Statistics, FewUnitsTakeStudentsT) {
  // means 1, 2, 3: deviation 1, error 1 / sqrt 3, t of 2 degrees of freedom
  const Estimate estimate = estimate_mean(std::vector<Unit>{{1, 1}, {2, 1}, {3, 1}});
  EXPECT_NEAR(estimate.interval->high - 2, 4.3026527 / std::sqrt(3.0), 1e-6);
  EXPECT_NEAR(2 - estimate.interval->low, 4.3026527 / std::sqrt(3.0), 1e-6);
  EXPECT_NEAR(student_t_975(1), 12.7062, 1e-4);
  EXPECT_NEAR(student_t_975(30), 2.0422725, 1e-6);
  EXPECT_NEAR(student_t_975(31), 2.0395134, 1e-5);
  EXPECT_NEAR(student_t_975(1000), 1.9623391, 1e-6);
  EXPECT_THROW(student_t_975(0), Error);
}

TEST(Statistics, SkewMovesTheIntervalUpwards) {
  Rng rng(3);
  double truth = 0;
  const Estimate estimate = estimate_mean(sample_units(Kind::divergences, 20, rng, truth));
  EXPECT_GT(estimate.interval->high - estimate.value,
            1.1 * (estimate.value - estimate.interval->low));
}

TEST(Statistics, Transformations) {
  const Estimate estimate{2, 0.5, Interval{1, 4}};
  const Estimate e = exp_of(estimate), s = scaled(estimate, 3), r = sqrt_of(estimate);
  EXPECT_NEAR(e.standard_error.value(), std::exp(2.0) * 0.5, 1e-12);
  EXPECT_NEAR(e.interval->high, std::exp(4.0), 1e-9);
  EXPECT_EQ(s.interval->low, 3);
  EXPECT_EQ(s.standard_error, 1.5);
  EXPECT_NEAR(r.standard_error.value(), 0.5 / (2 * std::sqrt(2.0)), 1e-12);
  EXPECT_EQ(r.interval->high, 2);
  EXPECT_THROW(differences(std::vector<Unit>{{1, 1}}, std::vector<Unit>{{1, 2}}), Error);
  EXPECT_THROW(differences(std::vector<Unit>{{1, 1}}, {}), Error);
  EXPECT_EQ(differences(std::vector<Unit>{{3, 2}}, std::vector<Unit>{{1, 2}})[0].sum, 2);
}

TEST(Statistics, QuantilesAreNumpys) {
  const std::vector<double> sorted = {1, 2, 4, 8};
  EXPECT_EQ(quantile_of_sorted(sorted, 0), 1);
  EXPECT_EQ(quantile_of_sorted(sorted, 0.5), 3);
  EXPECT_NEAR(quantile_of_sorted(sorted, 0.9), 6.8, 1e-12);
  EXPECT_EQ(quantile_of_sorted(sorted, 1), 8);
  EXPECT_THROW(quantile_of_sorted({}, 0.5), Error);
}

}  // namespace
}  // namespace qwb
