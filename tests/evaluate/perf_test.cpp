// Energy counters through perf, in a folder and through a reader of the test's own.
#include "lib/evaluate/energy/perf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <map>

#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

// Counts per (event, processor); an error for all, if set.
class FakeReader : public PerfReader {
 public:
  int open(uint32_t type, uint64_t config, int processor) override {
    EXPECT_EQ(type, 23u);
    if (error != 0) return -error;
    ++opened;
    return static_cast<int>(config) * 1000 + processor;
  }
  std::optional<uint64_t> read(int handle) override {
    return broken ? std::nullopt : std::optional(counts[handle]);
  }
  void close(int) override { --opened; }

  std::map<int, uint64_t> counts;
  int error = 0;
  bool broken = false;
  int opened = 0;
};

class Perf : public ::testing::Test {
 protected:
  Perf() : scratch_("perf") {
    paths_.events = scratch_.path() / "devices";
    paths_.processors = scratch_.path() / "cpu";
    paths_.paranoid = scratch_.path() / "paranoid";
    write("devices/power/type", "23");
    write("devices/power/cpumask", "0,28");
    event("energy-pkg", "0x02", "2.3283064365386962890625e-10");
    write("cpu/cpu0/topology/physical_package_id", "0");
    write("cpu/cpu28/topology/physical_package_id", "1");
    write("paranoid", "2");
  }
  void write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((scratch_.path() / name).parent_path());
    std::ofstream(scratch_.path() / name) << text << "\n";
  }
  void event(const std::string& name, const std::string& config, const std::string& scale) {
    write("devices/power/events/" + name, "event=" + config);
    write("devices/power/events/" + name + ".scale", scale);
    write("devices/power/events/" + name + ".unit", "Joules");
  }
  std::vector<std::unique_ptr<EnergySource>> sources() {
    reasons_.clear();
    return perf_sources(paths_, reader_, "/nonexistent", reasons_);
  }
  static uint64_t counts(double joules) { return static_cast<uint64_t>(joules * 4294967296.0); }

  testing::Scratch scratch_;
  PerfPaths paths_;
  std::shared_ptr<FakeReader> reader_ = std::make_shared<FakeReader>();
  std::vector<std::string> reasons_;
};

TEST_F(Perf, MeasuresEveryPackage) {
  auto found = sources();
  ASSERT_EQ(found.size(), 2u);
  for (auto& source : found) source->start(0);
  reader_->counts[2000] = counts(40);
  reader_->counts[2028] = counts(7);
  found[0]->sample(1);
  reader_->counts[2000] = counts(90);
  const EnergyFigure figure = found[0]->stop(2).figure.value();
  EXPECT_NEAR(figure.joules, 90, 1e-6);
  EXPECT_EQ(figure.method, "rapl-perf");
  EXPECT_EQ(figure.device, "package-0");
  EXPECT_EQ(figure.domain, "package");
  EXPECT_NEAR(figure.watts, 45, 1e-6);
  const EnergyFigure second = found[1]->stop(2).figure.value();
  EXPECT_EQ(second.device, "package-1");
  EXPECT_NEAR(second.joules, 7, 1e-6);
  found.clear();
  EXPECT_EQ(reader_->opened, 0);
}

TEST_F(Perf, MemoryIsAdded) {
  event("energy-ram", "0x03", "2.3283064365386962890625e-10");
  auto found = sources();
  ASSERT_EQ(found.size(), 2u);
  found[0]->start(0);
  reader_->counts[2000] = counts(10);
  reader_->counts[3000] = counts(5);
  const EnergyFigure figure = found[0]->stop(1).figure.value();
  EXPECT_NEAR(figure.joules, 15, 1e-6);
  EXPECT_EQ(figure.domain, "package+dram");
}

TEST_F(Perf, BrokenCountersGiveNoNumber) {
  auto found = sources();
  found.at(0)->start(0);
  EXPECT_THAT(found[0]->stop(1).reason, HasSubstr("did not move"));
  found[0]->start(0);
  reader_->counts[2000] = counts(90'000);
  EXPECT_THAT(found[0]->stop(1).reason, HasSubstr("broken"));
  found[0]->start(0);
  reader_->counts[2000] = counts(5);
  EXPECT_THAT(found[0]->stop(1).reason, HasSubstr("backwards"));
  found[0]->start(0);
  reader_->broken = true;
  EXPECT_THAT(found[0]->stop(1).reason, HasSubstr("cannot be read any more"));
}

TEST_F(Perf, RefusedAccessSaysHowToGrantIt) {
  reader_->error = EACCES;
  EXPECT_TRUE(sources().empty());
  EXPECT_THAT(reasons_.at(0), HasSubstr("perf_event_paranoid is 2"));
  EXPECT_THAT(reasons_.at(0), HasSubstr("sudo sysctl kernel.perf_event_paranoid=0"));
  reader_->error = ENODEV;
  EXPECT_TRUE(sources().empty());
  EXPECT_THAT(reasons_.at(0), HasSubstr("No such device"));
}

TEST_F(Perf, FilesThatMakeNoSenseAreNoCounter) {
  const auto none = [&] { return sources().empty() && !reasons_.empty(); };
  event("energy-pkg", "0x02", "0");
  EXPECT_TRUE(none());
  event("energy-pkg", "0x02", "1e-9x");
  EXPECT_TRUE(none());
  event("energy-pkg", "02", "1e-9");
  EXPECT_TRUE(none());
  event("energy-pkg", "0x02", "1e-9");
  EXPECT_FALSE(none());
  for (const char* mask : {"", "x", "3-1", "-1"}) {
    write("devices/power/cpumask", mask);
    EXPECT_TRUE(none()) << mask;
  }
  write("devices/power/cpumask", "0-2");
  EXPECT_EQ(sources().size(), 3u);
  write("devices/power/type", "x");
  EXPECT_TRUE(none());
}

// powercap without permission: the meter takes perf.
TEST_F(Perf, TakesThePlaceOfAPowercapThatCannotBeRead) {
  for (const char* zone : {"intel-rapl:0", "intel-rapl:1"}) {
    write(std::string("powercap/") + zone + "/name", std::string("package-") + zone[11]);
    std::filesystem::create_directories(scratch_.path() / "powercap" / zone /
                                        "energy_uj");  // unreadable
  }
  EnergyOptions options;
  options.powercap = scratch_.path() / "powercap";
  options.perf = paths_;
  options.perf_reader = reader_;
  options.nvml_library = "";
  EnergyMeter meter(options);
  meter.start();
  reader_->counts[2000] = counts(10);
  reader_->counts[2028] = counts(20);
  const EnergyReport report = meter.stop();
  ASSERT_TRUE(report.total);
  EXPECT_EQ(report.total->method, "rapl-perf");
  EXPECT_NEAR(report.total->joules, 30, 1e-6);
  reader_->error = EPERM;
  EnergyMeter neither(options);
  neither.start();
  const EnergyReport without = neither.stop();
  EXPECT_THAT(without.reasons, ::testing::Contains(HasSubstr("perf_event_paranoid")));
  EXPECT_THAT(without.reasons, ::testing::Contains(HasSubstr("energy_uj")));
}

}  // namespace
}  // namespace qwb
