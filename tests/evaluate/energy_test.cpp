#include "lib/evaluate/energy/energy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "lib/base/error.h"
#include "lib/evaluate/energy/counter.h"
#include "lib/evaluate/energy/rapl.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

// A powercap tree in a temporary folder.
class Powercap : public ::testing::Test {
 protected:
  Powercap() : root_(Path(::testing::TempDir()) / ("qwb_powercap_" + std::to_string(getpid()))) {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
    write(root_ / "cpuinfo", "processor : 0\nmodel name\t: Fake CPU 9000\nflags\t\t: fpu sse\n");
  }
  ~Powercap() override { std::filesystem::remove_all(root_); }

  static void write(const Path& file, const std::string& text) {
    std::ofstream(file, std::ios::trunc) << text;
  }
  void zone(const std::string& zone, const std::string& name,
            const std::string& range = "262143328850") {
    std::filesystem::create_directories(root_ / zone);
    write(root_ / zone / "name", name + "\n");
    if (!range.empty()) write(root_ / zone / "max_energy_range_uj", range + "\n");
    set(zone, 0);
  }
  void set(const std::string& zone, double joules) {
    write(root_ / zone / "energy_uj", std::to_string(static_cast<uint64_t>(joules * 1e6)) + "\n");
  }
  std::vector<std::unique_ptr<EnergySource>> sources() {
    reasons_.clear();
    return rapl_sources(root_, root_ / "cpuinfo", reasons_);
  }
  // A window of one zone: the counter's values in joules at seconds 0, 1, 2, ...
  EnergyOutcome window(const std::string& zone, const std::vector<double>& values) {
    set(zone, values[0]);
    auto found = sources();
    found.at(0)->start(0);
    double now = 0;
    for (size_t i = 1; i < values.size(); ++i) {
      set(zone, values[i]);
      now += 1;
      if (i + 1 < values.size()) found[0]->sample(now);
    }
    return found[0]->stop(now);
  }

  Path root_;
  std::vector<std::string> reasons_;
};

TEST_F(Powercap, MeasuresAPackage) {
  zone("intel-rapl:0", "package-0");
  const EnergyOutcome outcome = window("intel-rapl:0", {100, 150, 230});
  ASSERT_TRUE(outcome.figure);
  EXPECT_DOUBLE_EQ(outcome.figure->joules, 130);
  EXPECT_EQ(outcome.figure->method, "rapl-powercap");
  EXPECT_EQ(outcome.figure->device, "package-0");
  EXPECT_EQ(outcome.figure->domain, "package");
  EXPECT_EQ(outcome.figure->quality, "measured");
  EXPECT_DOUBLE_EQ(outcome.figure->seconds, 2);
  EXPECT_DOUBLE_EQ(outcome.figure->watts, 65);
}

TEST_F(Powercap, WrapsOnceOrMoreAreAdded) {
  zone("intel-rapl:0", "package-0", "1000000000");  // 1000 J
  EXPECT_NEAR(window("intel-rapl:0", {900, 100}).figure->joules, 200, 1e-6);
  EXPECT_NEAR(window("intel-rapl:0", {900, 100, 950, 50}).figure->joules, 200 + 850 + 100, 1e-6);
}

TEST_F(Powercap, AResetIsNoWrap) {
  zone("intel-rapl:0", "package-0");  // 262 kJ
  const EnergyOutcome outcome = window("intel-rapl:0", {5000, 5100, 0, 100});
  EXPECT_FALSE(outcome.figure);
  EXPECT_THAT(outcome.reason, HasSubstr("reset"));
}

// A counter that steps every 10 ms of a clock that every reading moves on by 1 ms.
TEST(WrappingCounter, StepsAreMediansOfWhatWasSeen) {
  int milliseconds = 0;
  const auto clock = [&] { return milliseconds * 1e-3; };
  const auto joules = [&]() -> std::optional<double> {
    ++milliseconds;
    return milliseconds == 55 ? std::nullopt : std::optional(0.5 * (milliseconds / 10));
  };
  const auto step = find_counter_step(joules, clock, 0, 10);
  ASSERT_TRUE(step);
  EXPECT_NEAR(step->seconds, 0.01, 1e-9);
  EXPECT_NEAR(step->joules, 0.5, 1e-9);
  EXPECT_LT(milliseconds, 250);  // twenty changes are enough
  EXPECT_FALSE(find_counter_step([&] { return ++milliseconds, std::optional(1.0); }, clock, 0, 1));
}

// Two falls in a row need the whole range to be spent between them: impossible in 0.4 s.
TEST(WrappingCounter, ASecondFallTooSoonIsAReset) {
  WrappingCounter counter("c", 1, 12'000);  // joules
  counter.start(11'900, 0);
  counter.sample(50, 0.5);
  EXPECT_DOUBLE_EQ(counter.joules().value(), 150);
  counter.sample(20, 0.9);
  EXPECT_FALSE(counter.joules());
  EXPECT_THAT(counter.reason(), HasSubstr("reset"));
  counter.sample(30, 1.9);  // a window once lost stays lost
  EXPECT_FALSE(counter.joules());
  counter.start(30, 2);
  counter.sample(40, 3);
  EXPECT_DOUBLE_EQ(counter.joules().value(), 10);
}

TEST_F(Powercap, MissingRangeLosesOnlyWindowsThatFall) {
  zone("intel-rapl:0", "package-0", "");
  EXPECT_DOUBLE_EQ(window("intel-rapl:0", {100, 150}).figure->joules, 50);
  const EnergyOutcome fell = window("intel-rapl:0", {100, 50});
  EXPECT_FALSE(fell.figure);
  EXPECT_THAT(fell.reason, HasSubstr("backwards"));
}

TEST_F(Powercap, FrozenOrBrokenCountersGiveNoZero) {
  zone("intel-rapl:0", "package-0");
  EXPECT_THAT(window("intel-rapl:0", {100, 100, 100}).reason, HasSubstr("did not move"));
  EXPECT_THAT(window("intel-rapl:0", {100, 90'000, 90'001}).reason, HasSubstr("broken"));
  auto found = sources();
  found.at(0)->start(0);
  write(root_ / "intel-rapl:0" / "energy_uj", "12x\n");
  EXPECT_THAT(found[0]->stop(1).reason, HasSubstr("not a count"));
  set("intel-rapl:0", 1);
  found = sources();
  found.at(0)->start(0);
  std::filesystem::remove(root_ / "intel-rapl:0" / "energy_uj");
  set("intel-rapl:0", 1);
  std::filesystem::remove(root_ / "intel-rapl:0" / "energy_uj");
  EXPECT_THAT(found[0]->stop(1).reason, HasSubstr("No such file"));
}

TEST_F(Powercap, UnreadableSaysHowToGrantAccess) {
  zone("intel-rapl:0", "package-0");
  // A root user reads everything: a folder in the file's place cannot be read by anybody, and
  // stands for it there.
  if (geteuid() == 0) {
    std::filesystem::remove(root_ / "intel-rapl:0" / "energy_uj");
    std::filesystem::create_directory(root_ / "intel-rapl:0" / "energy_uj");
  } else {
    std::filesystem::permissions(root_ / "intel-rapl:0" / "energy_uj",
                                 std::filesystem::perms::none);
  }
  auto found = sources();
  ASSERT_EQ(found.size(), 1u);
  found[0]->start(0);
  const EnergyOutcome outcome = found[0]->stop(1);
  EXPECT_FALSE(outcome.figure);
  EXPECT_THAT(outcome.reason, HasSubstr(geteuid() == 0 ? "energy_uj" : "chmod a+r"));
}

TEST_F(Powercap, NestedZonesAreNotAddedUpAndDramIs) {
  zone("intel-rapl:0", "psys");
  zone("intel-rapl:1", "package-0");
  zone("intel-rapl:1:0", "core");
  zone("intel-rapl:1:1", "uncore");
  zone("intel-rapl:1:2", "dram");
  zone("intel-rapl:2", "package-1");
  zone("intel-rapl-mmio:0", "package-0");  // the same package again
  auto found = sources();
  ASSERT_EQ(found.size(), 2u);
  for (auto& source : found) source->start(0);
  for (const char* name : {"intel-rapl:0", "intel-rapl:1:0", "intel-rapl:1:1"}) set(name, 1000);
  set("intel-rapl-mmio:0", 70);
  set("intel-rapl:1", 71);
  set("intel-rapl:1:2", 5);
  set("intel-rapl:2", 30);
  const EnergyOutcome first = found[0]->stop(1);
  EXPECT_DOUBLE_EQ(first.figure->joules, 75);
  EXPECT_EQ(first.figure->domain, "package+dram");
  EXPECT_DOUBLE_EQ(found[1]->stop(1).figure->joules, 30);
}

TEST_F(Powercap, SgxIsRemarked) {
  write(root_ / "cpuinfo", "processor : 0\nflags\t\t: fpu sgx sse\n");
  zone("intel-rapl:0", "package-0");
  EXPECT_THAT(window("intel-rapl:0", {1, 2}).figure->remark, HasSubstr("SGX"));
}

// --- the whole meter

class Meter : public Powercap {
 protected:
  EnergyOptions options() {
    EnergyOptions o;
    o.powercap = root_;
    o.cpuinfo = root_ / "cpuinfo";
    o.nvml_library = "";
    o.perf.events = "/nonexistent";
    return o;
  }
  static void burn() {
    volatile double x = 1;
    const std::clock_t end = std::clock() + CLOCKS_PER_SEC / 20;
    while (std::clock() < end) x = x * 1.0000001;
  }
};

TEST_F(Meter, AddsPackages) {
  zone("intel-rapl:0", "package-0");
  zone("intel-rapl:1", "package-1");
  EnergyMeter meter(options());
  meter.start();
  set("intel-rapl:0", 10);
  set("intel-rapl:1", 20);
  const EnergyReport report = meter.stop();
  ASSERT_TRUE(report.total);
  EXPECT_DOUBLE_EQ(report.total->joules, 30);
  EXPECT_EQ(report.total->device, "package-0+package-1");
  EXPECT_EQ(report.total->quality, "measured");
  EXPECT_EQ(report.parts.size(), 2u);
}

TEST_F(Meter, ASumWithoutOnePackageIsNoTotal) {
  zone("intel-rapl:0", "package-0");
  zone("intel-rapl:1", "package-1");
  EnergyMeter meter(options());
  meter.start();
  set("intel-rapl:0", 10);
  burn();
  const EnergyReport report = meter.stop();
  EXPECT_EQ(report.total->method, "cpu-time-model");
  ASSERT_EQ(report.parts.size(), 1u);
  EXPECT_THAT(report.reasons.at(0), HasSubstr("intel-rapl:1 did not move"));
}

TEST_F(Meter, EstimatesAreLabelled) {
  EnergyMeter meter(options());
  meter.start();
  burn();
  const EnergyReport report = meter.stop();
  ASSERT_TRUE(report.total);
  EXPECT_EQ(report.total->method, "cpu-time-model");
  EXPECT_EQ(report.total->quality, "estimated");
  EXPECT_EQ(report.total->device, "Fake CPU 9000");
  EXPECT_THAT(report.total->remark, HasSubstr("CPU seconds x 4 W"));
  EXPECT_GT(report.total->joules, 0.1);
  EXPECT_LT(report.total->joules, 4);
  EXPECT_THAT(report.reasons.at(0), HasSubstr("no processor package"));
}

TEST_F(Meter, DeclaredWattsTimesSeconds) {
  EnergyOptions o = options();
  o.declared_watts = 50;
  double now = 7;
  o.clock = [&now] { return now; };
  EnergyMeter meter(o);
  meter.start();
  now = 10;
  const EnergyReport report = meter.stop();
  EXPECT_DOUBLE_EQ(report.total->joules, 150);
  EXPECT_EQ(report.total->method, "declared-power");
  EXPECT_EQ(report.total->domain, "machine");
  o.declared_watts = -1;
  EXPECT_THROW(EnergyMeter{o}, Error);
  o.declared_watts = NAN;
  EXPECT_THROW(EnergyMeter{o}, Error);
}

}  // namespace
}  // namespace qwb
