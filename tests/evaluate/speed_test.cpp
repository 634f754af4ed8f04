#include "lib/evaluate/speed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/evaluate/subject.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using testing::demo;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SlowSpeed, SpreadsAreThoseOfTheSample) {
  const Spread odd = spread_of({3, 1, 2});
  EXPECT_EQ(odd.median, 2);
  EXPECT_EQ(odd.minimum, 1);
  EXPECT_EQ(odd.maximum, 3);
  EXPECT_EQ(odd.mean, 2);
  EXPECT_EQ(odd.deviation, 1);  // n - 1
  EXPECT_EQ(spread_of({4, 1, 2, 3}).median, 2.5);
  EXPECT_EQ(spread_of({5}).deviation, 0);
  EXPECT_THROW(spread_of({}), Error);
}

std::vector<std::string> names(const SpeedGrid& grid, int64_t positions) {
  ModelConfig config;
  config.max_positions = positions;
  std::vector<std::string> list;
  for (const SpeedTest& test : speed_tests(grid, config)) list.push_back(test.name());
  return list;
}

TEST(SlowSpeed, GridsAreThoseOfLlamaBench) {
  EXPECT_THAT(names({}, 2048), ElementsAre("pp512", "tg128"));
  EXPECT_THAT(names({}, 100), ElementsAre("pp100", "tg100"));  // defaults give way to the model
  EXPECT_THAT(names({{}, {}, {60}}, 100), ElementsAre("pp40 @ d60", "tg40 @ d60"));
  EXPECT_THAT(names({{128, 512}, {64, 128}, {0, 512}}, 2048),
              ElementsAre("pp128", "pp512", "tg64", "tg128", "pp128 @ d512", "pp512 @ d512",
                          "tg64 @ d512", "tg128 @ d512"));
  EXPECT_THAT(names({{0}, {8, 8}, {}}, 64), ElementsAre("tg8"));
  EXPECT_EQ((SpeedTest{512, 128, 0}).name(), "pp512+tg128");
}

TEST(SlowSpeed, WhatWasAskedForIsNotCut) {
  const auto message = [](const SpeedGrid& grid) -> std::string {
    try {
      names(grid, 100);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(message({{101}, {}, {}}), HasSubstr("pp101 does not fit the 100 positions"));
  EXPECT_THAT(message({{50}, {10}, {60}}), HasSubstr("pp50 @ d60 does not fit"));
  EXPECT_THAT(message({{0}, {0}, {}}), HasSubstr("a prompt or tokens to generate"));
  EXPECT_THAT(message({{-1}, {}, {}}), HasSubstr("0 or more"));
  EXPECT_THAT(message({{INT64_MAX}, {}, {}}), HasSubstr("0 or more"));
}

TEST(SlowSpeed, MeasuresEveryCell) {
  const Subject subject = open_subject(demo("gpt2"), false);
  SpeedOptions options;
  options.repetitions = 3;
  options.grid = {{32}, {4}, {0, 16}};
  const SpeedResult result = measure_speed(*subject.model, options, Context());
  ASSERT_EQ(result.runs.size(), 4u);
  EXPECT_EQ(result.repetitions, 3);
  EXPECT_GT(result.first_pass_seconds, 0);
  EXPECT_EQ(result.kv_tokens(), 48);
  EXPECT_EQ(result.prefill()->test.name(), "pp32");
  EXPECT_EQ(result.decode()->test.name(), "tg4");
  for (const SpeedRun& run : result.runs) {
    EXPECT_EQ(run.samples_ns.size(), 3u);
    EXPECT_EQ(run.kv_bytes,
              kv_cache_bytes(subject.model->config(), run.test.n_depth + run.test.tokens()));
    EXPECT_THAT(run.time, ::testing::MatchesRegex("20..-..-..T..:..:..Z"));
    const Spread rate = run.rate();
    EXPECT_GT(rate.minimum, 0);
    EXPECT_LE(rate.minimum, rate.median);
    EXPECT_LE(rate.median, rate.maximum);
    EXPECT_NEAR(rate.maximum * spread_of(run.seconds()).minimum,
                static_cast<double>(run.test.tokens()), 1e-6);
  }
  options.repetitions = 0;
  EXPECT_THROW(measure_speed(*subject.model, options, Context()), Error);
}

// Two passes of one runner leave different logits: their tokens differ. Two runners agree: tokens
// are fixed.
TEST(SlowSpeed, TokensAreFixedAndDifferInEachRepetition) {
  const Subject subject = open_subject(demo("gpt2"), false);
  const auto logits = [&](int passes) {
    SpeedRunner runner(*subject.model, {16, 2, 8});
    for (int i = 0; i < passes; ++i) runner.pass();
    return subject.model->executor().download(runner.logits());
  };
  EXPECT_EQ(logits(1), logits(1));
  EXPECT_NE(logits(1), logits(2));
}

}  // namespace
}  // namespace qwb
