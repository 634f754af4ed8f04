// Works in rounds, idle baselines and net joules, on the demo models and a simulated powercap tree.
#include "lib/evaluate/energy_rounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "lib/base/error.h"
#include "lib/evaluate/cost_record.h"
#include "lib/evaluate/subject.h"
#include "tests/base/context_helper.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using testing::demo;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

EnergyFigure measured(double joules, double seconds) {
  return {joules,  "rapl-powercap",  "package-0", "package", "measured",
          seconds, joules / seconds, "",          {}};
}
EnergyFigure guessed(double joules, double seconds) {
  return {joules,  "cpu-time-model", "cpu",     "process", "estimated",
          seconds, joules / seconds, "formula", {}};
}
EnergyReport report(std::optional<EnergyFigure> figure) {
  EnergyReport r;
  if (figure) r.parts = {*figure};
  r.total = std::move(figure);
  return r;
}
EnergyWindow window(const std::string& work, std::optional<EnergyFigure> figure) {
  EnergyWindow w;
  w.work = work;
  w.tokens = 100;
  w.report = report(std::move(figure));
  return w;
}

TEST(EnergySums, AddUpAndKeepTheirLabels) {
  const auto same =
      total_energy({window("prefill", measured(10, 2)), window("decode", measured(10, 2))});
  EXPECT_DOUBLE_EQ(same->joules, 20);
  EXPECT_DOUBLE_EQ(same->seconds, 4);
  EXPECT_DOUBLE_EQ(same->watts, 5);
  EXPECT_EQ(same->method, "rapl-powercap");
  EXPECT_EQ(same->quality, "measured");
  const auto mixed =
      total_energy({window("prefill", guessed(6, 2)), window("decode", measured(10, 2))});
  EXPECT_EQ(mixed->method, "cpu-time-model+rapl-powercap");
  EXPECT_EQ(mixed->quality, "estimated");
  EXPECT_FALSE(total_energy({window("prefill", measured(10, 2)), window("decode", std::nullopt)}));
  EXPECT_FALSE(total_energy({}));
}

TEST(EnergySums, RoundsAddUpUnlessOneIsMissing) {
  EnergyFigure gpu{100, "nvml-counter", "GPU (0)", "gpu", "measured", 1, 100, "", 90};
  EnergyReport one = report(measured(10, 2)), two = report(measured(30, 2));
  one.parts.push_back(gpu);
  gpu.integrated_joules = 130;
  two.parts.push_back(gpu);
  two.reasons = {"a doubt"};
  const EnergyReport sum = add_reports({one, two});
  EXPECT_DOUBLE_EQ(sum.total->joules, 40);
  ASSERT_EQ(sum.parts.size(), 2u);
  EXPECT_DOUBLE_EQ(sum.parts[1].joules, 200);
  EXPECT_DOUBLE_EQ(sum.parts[1].integrated_joules.value(), 220);
  EXPECT_THAT(sum.reasons, ElementsAre("a doubt"));
  EXPECT_EQ(sum.parts[1].remark, "");  // two seconds are too short for a judgement
  one.parts[1].seconds = two.parts[1].seconds = 3;
  EXPECT_EQ(add_reports({one, two}).parts[1].remark, "integrated power gives 220 J, +10.0 %");
  const EnergyReport broken = add_reports({one, report(guessed(5, 2))});
  EXPECT_FALSE(broken.total);
  EXPECT_THAT(broken.reasons.at(0), HasSubstr("different ways"));
  two.parts[1].integrated_joules.reset();
  EXPECT_FALSE(add_reports({one, two}).parts[1].integrated_joules);
}

TEST(IdleBaseline, NetIsGrossWithoutIdlePower) {
  IdleBaseline idle;
  EXPECT_FALSE(idle.net_joules(measured(100, 2)));
  idle.before = report(measured(20, 2));  // 10 W
  EXPECT_DOUBLE_EQ(idle.net_joules(measured(100, 2)).value(), 80);
  idle.after = report(measured(60, 2));  // 30 W
  EXPECT_DOUBLE_EQ(idle.watts(measured(100, 2)).value(), 20);
  EXPECT_DOUBLE_EQ(idle.net_joules(measured(100, 2)).value(), 60);
  EXPECT_FALSE(idle.net_joules(measured(30, 2)));  // less than idle: no joules, not -10
  EXPECT_FALSE(idle.net_joules(guessed(100, 2)));
  EnergyFigure other = measured(100, 2);
  other.device = "package-1";
  EXPECT_FALSE(idle.watts(other));
}

TEST(CostRecord, UnitsAndNetsOfASimulatedMeasurement) {
  EnergyCost cost;
  cost.windows = {window("prefill", measured(100, 2)), window("decode", measured(40, 2)),
                  window("request", measured(50, 2))};
  cost.windows[0].round_joules = {0.9, 1.1};
  cost.windows[2].test = {15, 5, 0};  // five requests in 100 tokens
  cost.idle.before = report(measured(20, 2));
  cost.counters = {{"package-0", "rapl-powercap", {0.001, 0.05}}};
  const Json json = energy_json(cost);
  EXPECT_DOUBLE_EQ(json["joules"].get<double>(), 190);
  EXPECT_DOUBLE_EQ(json["net_joules"].get<double>(), 130);
  EXPECT_DOUBLE_EQ(json["joules_per_prompt_token"]["gross"].get<double>(), 1);
  EXPECT_DOUBLE_EQ(json["joules_per_prompt_token"]["net"].get<double>(), 0.8);
  EXPECT_NEAR(json["joules_per_prompt_token"]["stddev"].get<double>(), 0.1414, 1e-4);
  EXPECT_DOUBLE_EQ(json["joules_per_generated_token"]["gross"].get<double>(), 0.4);
  EXPECT_TRUE(json["joules_per_generated_token"]["stddev"].is_null());
  EXPECT_DOUBLE_EQ(json["joules_per_request"]["gross"].get<double>(), 10);
  EXPECT_DOUBLE_EQ(json["joules_per_request"]["net"].get<double>(), 6);
  EXPECT_DOUBLE_EQ(json["idle"]["before_watts"].get<double>(), 10);
  EXPECT_TRUE(json["idle"]["after_watts"].is_null());
  EXPECT_EQ(json["counters"][0]["step_seconds"], 0.001);
}

TEST(CostRecord, NotMeasuredIsNullAndSaysWhy) {
  EnergyCost cost;
  cost.windows = {window("perplexity", std::nullopt)};
  cost.windows[0].report.reasons = {"no counter"};
  const Json json = energy_json(cost);
  EXPECT_TRUE(json["joules"].is_null());
  EXPECT_TRUE(json["net_joules"].is_null());
  EXPECT_TRUE(json["joules_per_request"].is_null());
  EXPECT_EQ(json["quality"], "unavailable");
  EXPECT_EQ(json["reasons"], Json::array({"no counter"}));
  EXPECT_TRUE(json["windows"][0]["joules_per_token"].is_null());
}

TEST(CostRecord, TheRatioOfNvmlsTwoWaysIsKept) {
  EnergyFigure gpu{100, "nvml-counter", "GPU (0)", "gpu", "measured", 1, 100, "", 108};
  EnergyCost cost;
  cost.windows = {window("prefill", gpu)};
  EXPECT_DOUBLE_EQ(energy_json(cost)["windows"][0]["parts"][0]["power_ratio"].get<double>(), 1.08);
}

// A package that draws `watts` of real time, counted every millisecond or so.
class Simulated : public ::testing::Test {
 protected:
  Simulated() : scratch_("rounds") {
    const Path zone = scratch_.path() / "intel-rapl:0";
    std::filesystem::create_directories(zone);
    std::ofstream(zone / "name") << "package-0\n";
    std::ofstream(zone / "max_energy_range_uj") << "262143328850\n";
    write(1);
    writer_ = std::thread([this] { run(); });
    options_.powercap = scratch_.path();
    options_.perf.events = "/nonexistent";
    options_.nvml_library = "";
    plan_.seconds = 0.3;
    plan_.idle_seconds = 0.2;
    plan_.steps = 10;
  }
  ~Simulated() override {
    done_ = true;
    writer_.join();
  }
  void write(double joules) {
    const Path zone = scratch_.path() / "intel-rapl:0";
    std::ofstream(zone / "next") << static_cast<uint64_t>(joules * 1e6) << "\n";
    std::filesystem::rename(zone / "next", zone / "energy_uj");  // never half written
  }
  void run() {
    double joules = 1;
    auto last = std::chrono::steady_clock::now();
    while (!done_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const auto now = std::chrono::steady_clock::now();
      joules += watts_ * std::chrono::duration<double>(now - last).count();
      last = now;
      write(joules);
    }
  }

  testing::Scratch scratch_;
  std::atomic<bool> done_{false};
  std::atomic<double> watts_{100};
  std::thread writer_;
  EnergyOptions options_;
  EnergyPlan plan_;
};

// Remembers the turns, and lets the machine draw more once work begins.
struct Turns : Progress {
  std::vector<std::string> turns;
  std::vector<std::string> tasks;
  std::function<void(const std::string&)> on_begin = [](const std::string&) {};
  std::function<void(size_t)> on_turn = [](size_t) {};
  void begin(const std::string& task, int64_t) override {
    tasks.push_back(task);
    on_begin(task);
  }
  void advance(int64_t, const std::string& detail) override {
    if (detail.empty()) return;
    turns.push_back(detail);
    on_turn(turns.size());
  }
};

// Clocks of a machine whose hypervisor takes a share of every interval.
class StealingWatch : public CpuWatch {
 public:
  explicit StealingWatch(std::function<double()> share) : share_(std::move(share)) {}
  CpuMoment now() override {
    const double wall =
        std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    const double passed = last_.wall > 0 ? (wall - last_.wall) * Threads().count() : 0;
    last_.stolen = last_.stolen.value_or(0) + passed * share_();
    last_.own += passed * 0.9;
    last_.wall = wall;
    return last_;
  }

 private:
  std::function<double()> share_;
  CpuMoment last_;
};

CpuWatch& quiet_watch() {
  static StealingWatch watch([] { return 0.0; });
  return watch;
}

TEST_F(Simulated, ModelsTakeTurnsAndIdleIsMeasuredBeforeAndAfter) {
  const Subject a = open_subject(demo("gpt2"), false), b = open_subject(demo("llama"), false);
  EnergyMeter meter(options_);
  plan_.rounds = 2;
  plan_.patience = 1;
  Turns progress;
  progress.on_begin = [&](const std::string& task) { watts_ = task == "energy" ? 100 : 20; };
  watts_ = 20;
  const auto results = measure_energy({a.model.get(), b.model.get()}, {{16}, {2}, {}}, meter, plan_,
                                      quiet_watch(), context_telling(progress));
  EXPECT_THAT(progress.tasks, ElementsAre("idle power", "energy", "idle power"));
  EXPECT_THAT(
      progress.turns,
      ElementsAre("round 1, model 1: pp16", "round 1, model 1: tg2", "round 1, model 1: pp16+tg2",
                  "round 1, model 2: pp16", "round 1, model 2: tg2", "round 1, model 2: pp16+tg2",
                  "round 2, model 1: pp16", "round 2, model 1: tg2", "round 2, model 1: pp16+tg2",
                  "round 2, model 2: pp16", "round 2, model 2: tg2", "round 2, model 2: pp16+tg2"));
  ASSERT_EQ(results.size(), 2u);
  for (const ArtifactEnergy& result : results) {
    ASSERT_EQ(result.windows.size(), 3u);
    EXPECT_EQ(result.windows[0].work, "prefill");
    EXPECT_EQ(result.windows[1].work, "decode");
    EXPECT_EQ(result.windows[2].work, "request");
    for (const EnergyWindow& w : result.windows) {
      ASSERT_TRUE(w.report.total);
      EXPECT_GE(w.report.total->seconds, 0.3);  // repeated until long enough
      EXPECT_GE(w.passes, 2);
      EXPECT_EQ(w.tokens, w.passes * w.test.tokens());
      EXPECT_EQ(w.round_joules.size(), 2u);
      EXPECT_NEAR(w.report.total->watts, 100, 15);
      const double net = result.idle.net_joules(*w.report.total).value();
      EXPECT_NEAR(net / w.report.total->joules, 0.8, 0.1);
    }
  }
}

TEST_F(Simulated, RoundsThatDifferAreFollowedByMore) {
  const Subject a = open_subject(demo("gpt2"), false);
  EnergyMeter meter(options_);
  plan_ = {.seconds = 0.6, .rounds = 2, .steps = 10, .idle_seconds = 0};
  const auto rounds_at = [&](double second_watts) {
    Turns progress;
    watts_ = 100;
    progress.on_turn = [&](size_t) { watts_ = second_watts; };
    const auto results = measure_energy({a.model.get()}, {{64}, {0}, {}}, meter, plan_,
                                        quiet_watch(), context_telling(progress));
    EXPECT_EQ(results[0].windows[0].round_joules.size(), progress.turns.size());
    EnergyCost cost;
    cost.windows = results[0].windows;
    EXPECT_EQ(energy_json(cost)["windows"][0]["rounds"]["count"], progress.turns.size());
    return progress.turns.size();
  };
  EXPECT_EQ(rounds_at(900), 4u);
  plan_.deviation = 1.5;  // two values cannot deviate by more than 1.42 times their mean
  EXPECT_EQ(rounds_at(100), 2u);
  plan_.deviation = 0;
  plan_.patience = 3;
  EXPECT_EQ(rounds_at(900), 6u);
  plan_.patience = 1;
  EXPECT_EQ(rounds_at(900), 2u);
}

TEST_F(Simulated, DisturbedRoundsAreMadeAgain) {
  const Subject a = open_subject(demo("gpt2"), false);
  EnergyMeter meter(options_);
  plan_ = {.seconds = 0.4, .rounds = 2, .steps = 10, .idle_seconds = 0, .deviation = 10};
  const auto window_of = [&](const std::function<double()>& share) {
    StealingWatch watch(share);
    auto results = measure_energy({a.model.get()}, {{16}, {0}, {}}, meter, plan_, watch, {});
    return std::move(results[0].windows[0]);
  };
  int looks = 0;
  const EnergyWindow once = window_of([&] { return ++looks == 2 ? 0.3 : 0.0; });
  EXPECT_EQ(once.disturbed, 1);
  EXPECT_FALSE(once.noisy());
  EXPECT_EQ(once.round_joules.size(), 2u);
  EXPECT_LT(once.report.total->seconds, 0.6);  // what was disturbed does not count
  const EnergyWindow always = window_of([] { return 0.2; });
  EXPECT_EQ(always.disturbed, 4);
  EXPECT_TRUE(always.noisy());
  EXPECT_NEAR(always.lost_share, 0.2, 0.02);
  EnergyCost cost;
  cost.windows = {always};
  const Json json = energy_json(cost);
  EXPECT_EQ(json["windows"][0]["noisy"], true);
  EXPECT_EQ(json["windows"][0]["disturbed"], 4);
  EXPECT_EQ(json["joules_per_prompt_token"]["noisy"], true);
}

// The package draws as much as at work, or as idle, when the rest begins.
TEST_F(Simulated, TheMachineRestsUntilItsPowerIsIdleAgain) {
  const Subject a = open_subject(demo("gpt2"), false), b = open_subject(demo("gpt2"), false);
  EnergyMeter meter(options_);
  plan_ = {.seconds = 0, .rounds = 1, .steps = 10, .idle_seconds = 0.4};
  const auto rested = [&](double watts_at_rest, size_t models, double most) {
    Turns progress;
    progress.on_begin = [&](const std::string& task) { watts_ = task == "energy" ? 100 : 20; };
    progress.on_turn = [&](size_t) {
      watts_ = progress.turns.back().ends_with("cooling down") ? watts_at_rest : 100;
    };
    plan_.cooldown_seconds = most;
    const std::vector<const Model*> all = {a.model.get(), b.model.get()};
    const auto results =
        measure_energy({all.begin(), all.begin() + static_cast<std::ptrdiff_t>(models)},
                       {{16}, {0}, {}}, meter, plan_, quiet_watch(), context_telling(progress));
    EXPECT_EQ(results.front().rested_seconds, 0);  // nobody worked before
    return results.back().rested_seconds;
  };
  EXPECT_EQ(rested(20, 2, 0), 0);
  EXPECT_EQ(rested(20, 1, 5), 0);
  const double cool = rested(15, 2, 60);
  EXPECT_GE(cool, 0.5);  // one look at it
  EXPECT_LT(cool, 30);
  EXPECT_NEAR(rested(100, 2, 1.2), 1.2, 0.3);
  plan_.idle_seconds = 0;  // nothing tells when it is idle
  EXPECT_NEAR(rested(15, 2, 1.2), 1.2, 0.3);
}

TEST_F(Simulated, WindowsAreLongAgainstTheCountersStep) {
  const Subject a = open_subject(demo("gpt2"), false);
  EnergyMeter meter(options_);
  ASSERT_EQ(meter.counters().size(), 1u);
  const double step = meter.counters()[0].step.seconds;
  EXPECT_GT(step, 0.0009);
  EXPECT_LT(step, 0.05);
  plan_ = {.seconds = 0, .rounds = 1, .steps = static_cast<int>(0.4 / step), .idle_seconds = 0};
  const auto results =
      measure_energy({a.model.get()}, {{16}, {0}, {}}, meter, plan_, quiet_watch(), Context());
  ASSERT_EQ(results[0].windows.size(), 1u);
  EXPECT_GE(results[0].windows[0].report.total->seconds, 0.3);
  EXPECT_FALSE(results[0].idle.before);
}

TEST(EnergyRounds, EstimatesNeedNeitherIdleNorRepetition) {
  const Subject a = open_subject(demo("gpt2"), false);
  EnergyOptions options;
  options.powercap = options.perf.events = "/nonexistent";
  options.nvml_library = "";
  options.declared_watts = 20;
  EnergyMeter meter(options);
  Turns progress;
  const auto results = measure_energy({a.model.get()}, {{16}, {2}, {}}, meter, {}, quiet_watch(),
                                      context_telling(progress));
  EXPECT_THAT(progress.tasks, ElementsAre("energy"));
  for (const EnergyWindow& w : results.at(0).windows) {
    EXPECT_EQ(w.passes, 3);  // one in each round
    EXPECT_NEAR(w.report.total->watts, 20, 1e-9);
    EXPECT_FALSE(results[0].idle.net_joules(*w.report.total));
  }
  EXPECT_THROW(measure_energy({a.model.get()}, {}, meter, {.rounds = 0}, quiet_watch(),
                              context_telling(progress)),
               Error);
  EXPECT_THROW(measure_energy({a.model.get()}, {}, meter, {.seconds = -1}, quiet_watch(),
                              context_telling(progress)),
               Error);
  EXPECT_THROW(measure_energy({a.model.get()}, {}, meter, {.cooldown_seconds = -1}, quiet_watch(),
                              context_telling(progress)),
               Error);
  EXPECT_EQ(cool_down(meter, {.cooldown_seconds = 3600}, {}), 0);
}

TEST(EnergyRounds, ARequestFitsTheModel) {
  const Subject a = open_subject(demo("gpt2"), false);  // 512 positions
  EnergyOptions options;
  options.powercap = options.perf.events = "/nonexistent";
  options.nvml_library = "";
  EnergyMeter meter(options);
  const auto results = measure_energy({a.model.get()}, {{510}, {8}, {}}, meter, {.rounds = 1},
                                      quiet_watch(), Context());
  ASSERT_EQ(results[0].windows.size(), 3u);
  EXPECT_EQ(results[0].windows[2].test, (SpeedTest{504, 8, 0}));
}

}  // namespace
}  // namespace qwb
