#include "lib/model/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "lib/base/error.h"

namespace qwb {
namespace {

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, -1.0f, 3.0f};

TEST(Sampling, GreedyTakesTheLargestAndTheLowestIdOfATie) {
  Sampler sampler({});
  EXPECT_EQ(sampler.next(kLogits, {}), 1);
}

TEST(Sampling, TemperatureFollowsTheSoftmax) {
  SamplingSettings settings;
  settings.temperature = 2;
  const auto p = Sampler(settings).distribution(kLogits, {});
  double sum = 0;
  for (const float logit : kLogits) sum += std::exp(static_cast<double>(logit) / 2);
  for (size_t i = 0; i < p.size(); ++i)
    EXPECT_NEAR(p[i], std::exp(static_cast<double>(kLogits[i]) / 2) / sum, 1e-12);
}

TEST(Sampling, FiltersKeepWhatTheyShould) {
  const auto kept = [](SamplingSettings settings) {
    settings.temperature = 1;
    std::vector<int> ids;
    const auto p = Sampler(settings).distribution(kLogits, {});
    double sum = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      sum += p[i];
      if (p[i] > 0) ids.push_back(static_cast<int>(i));
    }
    EXPECT_NEAR(sum, 1, 1e-12);
    return ids;
  };
  // probabilities: 0.0540 0.3988 0.1467 0.0073 0.3988 (to rounding)
  EXPECT_EQ(kept({.top_k = 3}), (std::vector<int>{1, 2, 4}));
  EXPECT_EQ(kept({.top_p = 0.79}), (std::vector<int>{1, 4}));
  EXPECT_EQ(kept({.top_p = 0.81}), (std::vector<int>{1, 2, 4}));
  EXPECT_EQ(kept({.min_p = 0.3}), (std::vector<int>{1, 2, 4}));
  EXPECT_EQ(kept({.min_p = 0.5}), (std::vector<int>{1, 4}));
}

TEST(Sampling, ATemperatureNearZeroIsNearlyGreedy) {
  const std::vector<float> logits = {1.0f, -3.0f, 2.0f, 1.5f,
                                     -std::numeric_limits<float>::infinity()};
  for (const double temperature : {1e-3, 1e-40, 1e-300, 1e-310, 5e-324}) {
    const auto p = Sampler({.temperature = temperature}).distribution(logits, {});
    for (size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(p[i], i == 2 ? 1 : 0, 1e-100) << temperature;
    EXPECT_EQ(Sampler({.temperature = temperature, .top_p = 0.5, .min_p = 0.1}).next(logits, {}),
              2);
  }
  const std::vector<float> infinite = {1.0f, std::numeric_limits<float>::infinity()};
  EXPECT_THROW(Sampler({.temperature = 1}).next(infinite, {}), Error);
}

TEST(Sampling, RepetitionPenaltyMovesSeenTokensDown) {
  SamplingSettings settings;
  settings.repetition_penalty = 2;
  const std::vector<int32_t> seen = {1, 4, 4, 3};
  EXPECT_EQ(Sampler(settings).next(kLogits, seen), 2);  // 3 / 2 < 2
  settings.temperature = 1;
  const auto p = Sampler(settings).distribution(kLogits, seen);
  EXPECT_NEAR(p[3] / p[0], std::exp(-2.0 - 1.0), 1e-12);  // negative logits are multiplied
}

TEST(Sampling, WhatWasMadeIsPenalized) {
  SamplingSettings settings;
  settings.temperature = 1;
  settings.frequency_penalty = 0.5;
  settings.presence_penalty = 0.25;
  const std::vector<int32_t> seen = {1, 4, 0, 0, 2};
  const auto p = Sampler(settings).distribution(kLogits, seen, std::span(seen).last(3));
  EXPECT_NEAR(p[0] / p[1], std::exp(1.0 - 3.0 - 2 * 0.5 - 0.25), 1e-12);  // made twice
  EXPECT_NEAR(p[2] / p[1], std::exp(2.0 - 3.0 - 0.5 - 0.25), 1e-12);
  EXPECT_NEAR(p[4], p[1], 1e-12);  // in the prompt alone: as it was
  settings.temperature = 0;
  EXPECT_EQ(Sampler(settings).next(std::vector<float>{1, 0.5f}, seen, std::span(seen).last(3)), 1);
}

TEST(Sampling, TheSeedDecidesAndFrequenciesMatch) {
  SamplingSettings settings;
  settings.temperature = 1;
  settings.seed = 7;
  Sampler a(settings), b(settings);
  std::vector<int> count(kLogits.size());
  for (int i = 0; i < 20000; ++i) {
    const int32_t token = a.next(kLogits, {});
    EXPECT_EQ(token, b.next(kLogits, {}));
    ++count[static_cast<size_t>(token)];
  }
  const auto p = a.distribution(kLogits, {});
  // 20,000 draws: five standard deviations are at most 0.018
  for (size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(count[i] / 20000.0, p[i], 0.018);
}

TEST(Sampling, RefusesNonsense) {
  EXPECT_THROW(Sampler({.temperature = -1}), Error);
  EXPECT_THROW(Sampler({.top_p = 0}), Error);
  EXPECT_THROW(Sampler({.min_p = 2}), Error);
  EXPECT_THROW(Sampler({.repetition_penalty = 0}), Error);
  EXPECT_THROW(Sampler({.frequency_penalty = 3}), Error);
  EXPECT_THROW(Sampler({.presence_penalty = std::nan("")}), Error);
  EXPECT_THROW(Sampler({}).next(std::vector<float>{1, std::nanf("")}, {}), Error);
}

}  // namespace
}  // namespace qwb
