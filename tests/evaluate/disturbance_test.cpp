// Whether a repetition got its processor time, and what becomes of those that did not: by clocks
// that the tests turn themselves.
#include "lib/evaluate/disturbance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <map>

#include "lib/base/parallel.h"
#include "lib/evaluate/cost_record.h"
#include "lib/evaluate/session.h"
#include "lib/evaluate/subject.h"
#include "tests/base/context_helper.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using testing::demo;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST(ProcStat, TellsBusyAndStolenTimeOfAllProcessors) {
  CpuMoment moment;
  read_proc_stat("cpu  100 20 30 4000 500 6 7 80 90 1\ncpu0 1 1\ncpu1 1 1\ncpu2 1 1\nintr 5\n",
                 moment);
  const double tick = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
  EXPECT_DOUBLE_EQ(moment.busy.value(), 163 * tick);
  EXPECT_DOUBLE_EQ(moment.stolen.value(), 80 * tick);
  EXPECT_EQ(moment.processors, 3);
}

TEST(ProcStat, WhatIsMissingIsNotKnown) {
  for (const char* text : {"", "cpu", "cpu  1 2 3\n", "cpu  a b c d e f g\n"}) {
    CpuMoment moment;
    read_proc_stat(text, moment);
    EXPECT_FALSE(moment.busy.has_value()) << text;
    EXPECT_FALSE(moment.stolen.has_value()) << text;
  }
  SystemCpuWatch nowhere("/nonexistent/stat");
  const CpuMoment moment = nowhere.now();
  EXPECT_FALSE(moment.busy.has_value());
  EXPECT_GT(moment.wall, 0);
}

TEST(CpuShares, OthersCountOnlyBeyondTheProcessorsToSpare) {
  const CpuMoment begin{10, 5, 100, 1, 4};
  const auto others = [&](double busy, int threads) {
    return shares_between(begin, {12, 5 + 2.0 * threads * 0.75, 100 + busy, 1, 4}, threads).others;
  };
  EXPECT_NEAR(others(3 + 4, 2), 0, 1e-12);     // two others on the two processors that are left
  EXPECT_NEAR(others(3 + 5, 2), 0.25, 1e-12);  // one second of four was ours
  EXPECT_NEAR(others(6 + 2, 4), 0.25, 1e-12);
  EXPECT_EQ(others(6 + 0.015, 4), 0);  // a tick may be ours
  EXPECT_NEAR(shares_between(begin, {12, 8, 103, 2, 4}, 2).stolen, 0.25, 1e-12);
  EXPECT_NEAR(shares_between(begin, {12, 8, 103, 2, 4}, 2).own, 0.75, 1e-12);
}

TEST(CpuShares, LossIsWhatTheClocksTellOrWhatIsMissingAgainstTheBest) {
  EXPECT_DOUBLE_EQ(lost_share({1, 0.8, 0, 0}, 0.8),
                   0);  // threads that wait for each other are no loss
  EXPECT_NEAR(lost_share({1, 0.5, 0, 0}, 0.8), 0.3, 1e-12);
  EXPECT_NEAR(lost_share({1, 0.8, 0.1, 0.2}, 0.8), 0.3, 1e-12);
  EXPECT_DOUBLE_EQ(lost_share({1, 0.9, 0, 0}, 0.8), 0);
}

// What passes between one look at the clocks and the next.
struct Passed {
  double wall = 0.5, own_share = 0.9, others_share = 0, stolen_share = 0;
};
class FakeWatch : public CpuWatch {
 public:
  CpuMoment now() override {
    const auto found = at.find(calls++);
    const Passed passed = found == at.end() ? usual : found->second;
    const double whole = passed.wall * Threads().count();
    moment_.wall += passed.wall;
    moment_.own += passed.own_share * whole;
    moment_.busy = moment_.busy.value_or(0) + (passed.own_share + passed.others_share) * whole;
    moment_.stolen = moment_.stolen.value_or(0) + passed.stolen_share * whole;
    moment_.processors = Threads().count();
    return moment_;
  }
  Passed usual;
  std::map<int, Passed> at;
  int calls = 0;

 private:
  CpuMoment moment_;
};
// Looks: two at the warm-up, one before the repetitions, then two at each of them.
int end_of_repetition(int number) {
  return 2 + 2 * number;
}

class Disturbed : public ::testing::Test {
 protected:
  SpeedRun measured() {
    return measure_speeds({subject_.model.get()}, options_, watch_, Context()).front().runs.front();
  }
  Subject subject_ = open_subject(demo("gpt2"), false);
  SpeedOptions options_{{{4}, {0}, {}}, 3};
  FakeWatch watch_;
};

TEST_F(Disturbed, AQuietMachineIsMeasuredOnce) {
  const SpeedRun run = measured();
  EXPECT_THAT(run.samples_ns, SizeIs(3));
  for (const int64_t ns : run.samples_ns) EXPECT_NEAR(static_cast<double>(ns), 5e8, 2);
  EXPECT_EQ(run.disturbed, 0);
  EXPECT_FALSE(run.noisy);
  EXPECT_EQ(watch_.calls, 2 + 1 + 6 + 1);
}

TEST_F(Disturbed, ARepetitionThatLostItsProcessorTimeIsMadeAgain) {
  watch_.at[end_of_repetition(2)] = {0.9, 0.5};
  const SpeedRun run = measured();
  EXPECT_THAT(run.samples_ns, SizeIs(3));
  for (const int64_t ns : run.samples_ns) EXPECT_NEAR(static_cast<double>(ns), 5e8, 2);
  EXPECT_EQ(run.disturbed, 1);
  EXPECT_FALSE(run.noisy);
  EXPECT_NEAR(run.rate().median, 8, 1e-6);
}

TEST_F(Disturbed, ASlowFirstRepetitionIsKnownByTheLaterOnes) {
  watch_.at[end_of_repetition(1)] = {0.9, 0.5};
  const SpeedRun run = measured();
  EXPECT_EQ(run.disturbed, 1);
  EXPECT_NEAR(run.rate().minimum, 8, 1e-6);
}

TEST_F(Disturbed, StolenTimeIsALossThoughTheProcessGotAllTheRest) {
  watch_.at[end_of_repetition(3)] = {0.8, 0.9, 0, 0.1};
  const SpeedRun run = measured();
  EXPECT_EQ(run.disturbed, 1);
  EXPECT_FALSE(run.noisy);
}

TEST_F(Disturbed, WhereItStaysNoisyTheFigureSaysSoAndTheWorkEnds) {
  watch_.usual = {0.9, 0.5, 0.4};
  watch_.at[end_of_repetition(5)] = {0.8, 0.5, 0.2};
  const SpeedRun run = measured();
  EXPECT_THAT(run.samples_ns, SizeIs(3));
  EXPECT_TRUE(run.noisy);
  EXPECT_EQ(run.disturbed, 6);
  EXPECT_NEAR(run.lost_share, 0.4, 1e-6);
  EXPECT_EQ(watch_.calls, 2 + 1 + 2 * 6 + 1);
  EXPECT_NEAR(run.rate().maximum, 5, 1e-6);  // the least disturbed one is among them
  SpeedCost cost;
  cost.result.runs = {run};
  const Json json = speed_json(cost);
  EXPECT_EQ(json.at("prefill").at("noisy"), true);
  EXPECT_EQ(json.at("first_token_seconds").at("noisy"), true);
  const Json& test = json.at("tests").at(0);
  EXPECT_EQ(test.at("noisy"), true);
  EXPECT_EQ(test.at("disturbed"), 6);
  EXPECT_NEAR(test.at("lost_share").get<double>(), 0.4, 1e-6);
  EXPECT_THAT(test.at("cpu_share"), SizeIs(3));
}

TEST_F(Disturbed, TicksTooFewInEachRepetitionCountTogether) {
  const double wall = 0.03 / Threads().count();
  watch_.usual = {wall, 0.6, 0.4};  // 12 ms of others in each
  const SpeedRun run = measured();
  EXPECT_EQ(run.disturbed, 0);
  EXPECT_TRUE(run.noisy);
  EXPECT_NEAR(run.lost_share, 0.4, 0.01);
}

struct SpeedTurns : Progress {
  std::vector<std::string> turns;
  void advance(int64_t, const std::string& detail) override { turns.push_back(detail); }
};

TEST_F(Disturbed, ModelsTakeTurnsEachWithItsWarmUp) {
  options_.repetitions = 4;
  SpeedTurns progress;
  const auto results = measure_speeds({subject_.model.get(), subject_.model.get()}, options_,
                                      watch_, context_telling(progress));
  std::map<std::string, int> passes;
  std::vector<std::string> order;
  for (const std::string& turn : progress.turns) {
    if (passes[turn]++ == 0) order.push_back(turn);
  }
  EXPECT_THAT(order, ElementsAre("round 1, model 1: pp4", "round 1, model 2: pp4",
                                 "round 2, model 1: pp4", "round 2, model 2: pp4",
                                 "round 3, model 1: pp4", "round 3, model 2: pp4"));
  EXPECT_EQ(passes["round 1, model 1: pp4"], 1 + 1);
  EXPECT_EQ(passes["round 3, model 2: pp4"], 1 + 2);
  for (const SpeedResult& result : results) {
    EXPECT_EQ(result.models, 2);
    EXPECT_THAT(result.runs.front().samples_ns, SizeIs(4));
  }
}

TEST(SlowEvaluation, SpeedOfSeveralFoldersIsMeasuredInTurns) {
  const testing::Scratch scratch("speed_turns");
  testing::make_artifact(demo("gpt2"), "nf4", scratch.path(), demo("gpt2").string());
  EvaluationOptions options;
  options.speed = true;
  options.speed_options = {{{4}, {0}, {}}, 2};
  Evaluation evaluation(options, Context());
  evaluation.prepare({demo("gpt2"), scratch.path(), "/nonexistent"});
  for (const Path& folder : {demo("gpt2"), scratch.path()}) {
    const EvaluationRecord record = evaluation.run(folder);
    EXPECT_EQ(record.speed.at("in_turns"), 2);
    EXPECT_EQ(record.memory.at("kv_tokens"), 4);
  }
}

}  // namespace
}  // namespace qwb
