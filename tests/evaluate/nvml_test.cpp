// GPUs through a simulated NVML (fake_nvml.cpp).
#include "lib/evaluate/energy/nvml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <map>

#include "lib/evaluate/energy_rounds.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

double monotonic() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Nvml : public ::testing::Test {
 protected:
  ~Nvml() override { unsetenv("FAKE_NVML"); }
  EnergyOutcome window(const char* mode, int seconds = 6) {
    setenv("FAKE_NVML", mode, 1);
    auto gpus = nvml_sources(QWB_FAKE_NVML, reasons_);
    if (gpus.empty()) return {std::nullopt, "none"};
    gpus[0]->start(0);
    for (int i = 1; i < seconds; ++i) gpus[0]->sample(i);
    return gpus[0]->stop(seconds);
  }
  std::vector<std::string> reasons_;
};

TEST_F(Nvml, CounterIsPreferredAndCheckedAgainstPower) {
  const EnergyOutcome outcome = window("");
  ASSERT_TRUE(outcome.figure) << outcome.reason;
  EXPECT_DOUBLE_EQ(outcome.figure->joules, 600);
  EXPECT_DOUBLE_EQ(outcome.figure->integrated_joules.value(), 660);
  EXPECT_EQ(outcome.figure->method, "nvml-counter");
  EXPECT_EQ(outcome.figure->device, "Fake GPU (0)");
  EXPECT_EQ(outcome.figure->domain, "gpu");
  EXPECT_THAT(outcome.figure->remark, HasSubstr("integrated power gives 660 J, +10.0 %"));
}

TEST_F(Nvml, TemperatureAndLimitStandBesideTheJoules) {
  const EnergyOutcome outcome = window("");
  ASSERT_TRUE(outcome.figure);
  ASSERT_TRUE(outcome.figure->celsius_begin && outcome.figure->celsius_end);
  EXPECT_EQ(*outcome.figure->celsius_end - *outcome.figure->celsius_begin, 1);
  EXPECT_EQ(outcome.figure->power_limit_watts, 350);
  const EnergyOutcome bare = window("bare");
  ASSERT_TRUE(bare.figure);
  EXPECT_FALSE(bare.figure->celsius_begin || bare.figure->celsius_end ||
               bare.figure->power_limit_watts);
  // Over rounds: where it began and where it ended; a limit that changed is none.
  EnergyFigure second = *outcome.figure;
  second.celsius_begin = 60;
  second.celsius_end = 70;
  const auto added = [&] {
    EnergyReport one, two;
    one.total = outcome.figure;
    two.total = second;
    return add_reports({one, two}).total.value();
  };
  EXPECT_EQ(added().celsius_begin, outcome.figure->celsius_begin);
  EXPECT_EQ(added().celsius_end, 70);
  EXPECT_EQ(added().power_limit_watts, 350);
  second.power_limit_watts = 300;
  EXPECT_FALSE(added().power_limit_watts);
}

TEST_F(Nvml, BadCountersFallBackToPower) {
  for (const auto& [mode, reason] :
       std::map<const char*, const char*>{{"frozen", "did not move"},
                                          {"backwards", "backwards"},
                                          {"unsupported", "not supported"}}) {
    const EnergyOutcome outcome = window(mode);
    ASSERT_TRUE(outcome.figure) << mode;
    EXPECT_DOUBLE_EQ(outcome.figure->joules, 660);
    EXPECT_EQ(outcome.figure->method, "nvml-power");
    EXPECT_FALSE(outcome.figure->integrated_joules);
    EXPECT_THAT(outcome.figure->remark, HasSubstr(reason));
  }
}

TEST_F(Nvml, NothingMeasuredIsNothing) {
  EXPECT_THAT(window("dead").reason, HasSubstr("not supported, and no usable power readings"));
  EXPECT_EQ(window("empty").reason, "none");
  EXPECT_TRUE(reasons_.empty());
  EXPECT_EQ(window("mig").reason, "none");
  EXPECT_THAT(reasons_.at(0), HasSubstr("MIG"));
  EXPECT_EQ(window("off").reason, "none");
  EXPECT_THAT(reasons_.at(1), HasSubstr("driver is not loaded"));
  EXPECT_TRUE(nvml_sources("libdoes-not-exist.so", reasons_).empty());
  EXPECT_EQ(reasons_.size(), 2u);
}

TEST_F(Nvml, AGpuIsAPartButNotTheTotalOfWorkOnTheProcessor) {
  setenv("FAKE_NVML", "", 1);
  EnergyOptions options;
  options.powercap = options.perf.events = "/nonexistent";
  options.nvml_library = QWB_FAKE_NVML;
  options.declared_watts = 10;
  EnergyMeter meter(options);
  meter.start();
  usleep(300'000);
  const EnergyReport report = meter.stop();
  ASSERT_EQ(report.parts.size(), 2u) << report.reasons.size();
  EXPECT_EQ(report.total->method, "declared-power");
}

TEST_F(Nvml, TheCountersStepIsFoundByWatchingIt) {
  setenv("FAKE_NVML", "steps", 1);
  auto gpus = nvml_sources(QWB_FAKE_NVML, reasons_);
  ASSERT_EQ(gpus.size(), 1u);
  const auto found = gpus[0]->find_step([] { return monotonic(); });
  ASSERT_TRUE(found);
  EXPECT_EQ(found->method, "nvml-counter");
  EXPECT_NEAR(found->step.seconds, 0.02, 0.01);  // a busy machine looks late
  EXPECT_NEAR(found->step.joules, 2, 1);
  setenv("FAKE_NVML", "frozen", 1);
  EXPECT_FALSE(gpus[0]->find_step([] { return monotonic(); }));
}

}  // namespace
}  // namespace qwb
