// External meters: their readings as a curve, and simulated ones that are real commands.
#include "lib/evaluate/energy/external_meter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "lib/evaluate/energy/meter_series.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

std::string refusal(const std::vector<std::string>& lines) {
  MeterSeries series;
  double now = 0;
  for (const std::string& line : lines) series.add(line, now++);
  return series.reason();
}

TEST(MeterSeries, PowerIsIntegratedByTrapezoids) {
  MeterSeries series;
  EXPECT_TRUE(series.add("100 W", 0));
  EXPECT_TRUE(series.add(" 0.2 kW\r", 1));
  EXPECT_TRUE(series.add("", 1.5));
  EXPECT_TRUE(series.add("200000 mW", 3));
  std::string why;
  EXPECT_NEAR(series.joules(0, 3, why).value(), 150 + 400, 1e-9);
  EXPECT_NEAR(series.joules(0.5, 2, why).value(), 75 + 200, 1e-9);
  EXPECT_NEAR(series.joules(1, 4, why).value(), 400 + 200,
              1e-9);  // goes on for as long as readings are apart
}

TEST(MeterSeries, CountersMayBeginAnywhere) {
  MeterSeries series;
  series.add("7.5 kJ", 10);
  series.add("7600 J", 11);
  series.add("0.0022 kWh", 12);  // 7920 J
  std::string why;
  EXPECT_NEAR(series.joules(10, 12, why).value(), 420, 1e-6);
  EXPECT_NEAR(series.joules(10.5, 11, why).value(), 50, 1e-6);
  EXPECT_NEAR(series.step()->seconds, 1, 1e-9);
  EXPECT_EQ(series.size(), 3u);
}

TEST(MeterSeries, NonsenseIsRefused) {
  EXPECT_THAT(refusal({"hello"}), HasSubstr("not a number of W or J"));
  EXPECT_THAT(refusal({"5"}), HasSubstr("not a number of W or J"));
  EXPECT_THAT(refusal({"5 V"}), HasSubstr("not a number of W or J"));
  EXPECT_THAT(refusal({"-5 W"}), HasSubstr("cannot be"));
  EXPECT_THAT(refusal({"nan W"}), HasSubstr("cannot be"));
  EXPECT_THAT(refusal({"inf J"}), HasSubstr("cannot be"));
  EXPECT_THAT(refusal({"2000 kW"}), HasSubstr("no power of one machine"));
  EXPECT_THAT(refusal({"5 W", "5 J"}), HasSubstr("another kind"));
  EXPECT_THAT(refusal({"50 J", "49 J"}), HasSubstr("reset"));
  EXPECT_THAT(refusal({"50 J", "1e9 J"}), HasSubstr("absurd"));
  EXPECT_EQ(refusal({"5 W", "6 W"}), "");
}

TEST(MeterSeries, WhatDoesNotReachOrDoesNotMoveIsNoNumber) {
  MeterSeries series;
  std::string why;
  EXPECT_FALSE(series.joules(0, 1, why));
  EXPECT_THAT(why, HasSubstr("no reading near the begin"));
  for (const double t : {5, 6, 7}) series.add("100 J", t);
  EXPECT_FALSE(series.joules(2, 6, why));
  EXPECT_THAT(why, HasSubstr("no reading near the begin"));
  EXPECT_FALSE(series.joules(5, 9, why));
  EXPECT_THAT(why, HasSubstr("no reading near the end"));
  EXPECT_FALSE(series.joules(5, 7, why));
  EXPECT_THAT(why, HasSubstr("did not move"));
  MeterSeries off;  // a plug that says 0 W is not measuring
  off.add("0 W", 0);
  off.add("0 W", 1);
  EXPECT_EQ(off.size(), 0u);
}

TEST(MeterSeries, ManyReadingsAreThinnedOutOnTheCurve) {
  MeterSeries series;
  for (int i = 0; i < 200'000; ++i) series.add("50 W", i * 0.01);
  EXPECT_LT(series.size(), 70'000u);
  std::string why;
  EXPECT_NEAR(series.joules(10, 1990, why).value(), 50 * 1980, 1e-3);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class ExternalMeter : public ::testing::Test {
 protected:
  ExternalMeter() : scratch_("meter") {}
  // A window of half a second on a command.
  EnergyOutcome window(const std::string& command) {
    const auto meter = external_meter(command, now);
    step_ = meter->find_step(now);
    meter->start(now());
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    return meter->stop(now());
  }
  testing::Scratch scratch_;
  std::optional<CounterInfo> step_;
};

TEST_F(ExternalMeter, ACommandThatGoesOn) {
  const EnergyOutcome outcome = window("while true; do echo '80 W'; sleep 0.05; done");
  ASSERT_TRUE(outcome.figure) << outcome.reason;
  EXPECT_NEAR(outcome.figure->watts, 80, 1e-6);
  EXPECT_NEAR(outcome.figure->joules, 80 * outcome.figure->seconds, 1e-6);
  EXPECT_EQ(outcome.figure->method, "external-meter");
  EXPECT_EQ(outcome.figure->domain, "machine");
  EXPECT_EQ(outcome.figure->quality, "measured");
  ASSERT_TRUE(step_);
  EXPECT_GE(step_->step.seconds, 0.04);
}

// A counter of 10 J in every reading, by a command that prints one and ends.
TEST_F(ExternalMeter, ACommandThatIsRunAgain) {
  const std::string file = (scratch_.path() / "count").string();
  std::ofstream(file) << "0\n";
  const EnergyOutcome outcome =
      window("n=$(cat " + file + "); n=$((n+10)); echo $n >" + file + "; printf '%s J' $n");
  ASSERT_TRUE(outcome.figure) << outcome.reason;
  EXPECT_GE(outcome.figure->joules, 5);
  EXPECT_LE(outcome.figure->joules, 60);
}

TEST_F(ExternalMeter, FailuresAreTold) {
  EXPECT_THAT(window("echo 5 W; echo no such port >&2; exit 3").reason,
              HasSubstr("exit code 3: no such port"));
  EXPECT_THAT(window("/nonexistent/meter").reason, HasSubstr("exit code 127"));
  EXPECT_THAT(window("true").reason, HasSubstr("ended without a reading"));
  EXPECT_THAT(window("kill -9 $$").reason, HasSubstr("signal 9"));
  EXPECT_THAT(window("echo hello").reason, HasSubstr("\"hello\" is not a number of W or J"));
  EXPECT_THAT(window("head -c 10000 /dev/zero | tr '\\0' x").reason, HasSubstr("prints no lines"));
}

TEST_F(ExternalMeter, TheCommandEndsWithTheMeter) {
  const std::string file = (scratch_.path() / "alive").string();
  window("while true; do echo '80 W'; date +%N >" + file + "; sleep 0.02; done");
  const std::string last = read_text(file);
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  EXPECT_EQ(read_text(file), last);
}

// The meter measures the whole machine: it is the total, and the counters are parts.
TEST_F(ExternalMeter, IsTheTotal) {
  EnergyOptions options;
  options.powercap = options.perf.events = "/nonexistent";
  options.nvml_library = "";
  options.meter_command = "while true; do echo '80 W'; sleep 0.05; done";
  EnergyMeter meter(options);
  EXPECT_TRUE(meter.measures());
  EXPECT_GT(meter.seconds_for_steps(50), 2);
  meter.start();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const EnergyReport report = meter.stop();
  ASSERT_TRUE(report.total);
  EXPECT_EQ(report.total->method, "external-meter");
  options.meter_command = "exit 1";
  EnergyMeter broken(options);
  broken.start();
  const EnergyReport without = broken.stop();
  EXPECT_EQ(without.total ? without.total->quality : "estimated", "estimated");
  EXPECT_THAT(without.reasons, ::testing::Contains(HasSubstr("the meter `exit 1`: exit code 1")));
}

}  // namespace
}  // namespace qwb
