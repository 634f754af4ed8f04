#include "lib/evaluate/energy/estimate.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <string>
#include <utility>

#include "lib/evaluate/energy/sysfs.h"

namespace qwb {
namespace {

double process_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Estimate : public EnergySource {
 public:
  Estimate(std::optional<double> declared, std::string processor)
      : declared_(declared), processor_(std::move(processor)) {}
  void start(double now) override {
    began_ = now;
    cpu_began_ = process_cpu_seconds();
  }
  void sample(double) override {}
  EnergyOutcome stop(double now) override {
    const double seconds = now - began_;
    const double cpu = process_cpu_seconds() - cpu_began_;
    const double joules = declared_ ? *declared_ * seconds : kWattsPerBusyProcessor * cpu;
    if (!(joules > 0)) return {std::nullopt, "the window is too short to estimate its energy"};
    const std::string formula =
        declared_ ? fmt::format("{:.3g} s x {:.4g} W declared", seconds, *declared_)
                  : fmt::format("{:.3g} CPU seconds x {} W per busy processor", cpu,
                                kWattsPerBusyProcessor);
    return {EnergyFigure{joules,
                         declared_ ? "declared-power" : "cpu-time-model",
                         processor_,
                         declared_ ? "machine" : "process",
                         "estimated",
                         seconds,
                         seconds > 0 ? joules / seconds : 0,
                         formula,
                         {}},
            ""};
  }
  double sample_interval() const override { return 5; }

 private:
  std::optional<double> declared_;
  std::string processor_;
  double began_ = 0;
  double cpu_began_ = 0;
};

}  // namespace

std::unique_ptr<EnergySource> estimate_source(std::optional<double> declared_watts,
                                              const Path& cpuinfo) {
  return std::make_unique<Estimate>(declared_watts, processor_name(cpuinfo));
}

}  // namespace qwb
