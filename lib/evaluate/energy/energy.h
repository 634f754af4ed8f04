// Joules, and where they came from. A figure always names its source, device and quality; what
// could not be measured is absent with a reason, never 0. Energy is that of the whole device while
// the window was open, idle power and other processes included. How each number is made: energy.md.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "lib/base/file.h"
#include "lib/evaluate/energy/options.h"
#include "lib/evaluate/energy/perf_reader.h"

namespace qwb {

struct EnergyFigure {
  double joules = 0;    // > 0
  std::string method;   // "rapl-powercap", "rapl-perf", "nvml-counter", "nvml-power",
                        // "external-meter", "declared-power" or "cpu-time-model"
  std::string device;   // "package-0", "NVIDIA H100 (0)", the processor's name
  std::string domain;   // "package", "package+dram", "gpu", "machine", "process"
  std::string quality;  // "measured" or "estimated"
  double seconds = 0;   // length of the window
  double watts = 0;     // joules / seconds
  std::string remark;   // a doubt or a formula that belongs beside the number; may be empty
  std::optional<double> integrated_joules =
      {};  // nvml-counter: by the power readings of the same window
  // GPUs, if the driver reports them: temperatures at the window's two ends, since hot silicon
  // leaks more, and the power limit of the card.
  std::optional<double> celsius_begin = {}, celsius_end = {};
  std::optional<double> power_limit_watts = {};
};

// How finely a counter counts, as found by watching it.
struct CounterStep {
  double seconds = 0;  // between two changes, the median
  double joules = 0;   // of a change, the median
};
struct CounterInfo {
  std::string device;
  std::string method;
  CounterStep step;
};

// A figure, or why there is none.
struct EnergyOutcome {
  std::optional<EnergyFigure> figure;
  std::string reason;
};

// One device. Times are seconds on any monotonic clock, the same for all calls. Not thread-safe;
// never throws after construction.
class EnergySource {
 public:
  virtual ~EnergySource() = default;
  virtual void start(double now) = 0;
  // Called now and then while a window is open, at least every sample_interval() seconds.
  virtual void sample(double now) = 0;
  virtual EnergyOutcome stop(double now) = 0;
  virtual double sample_interval() const = 0;
  // processor: what the model runs on. other: seen, but not part of a total. machine: everything,
  // and so the total itself.
  enum class Scope { processor, machine, other };
  virtual Scope scope() const { return Scope::processor; }
  // False if a reading fails already now.
  virtual bool readable() const { return true; }
  // Watches the counter, for up to a few seconds. Nothing if it does not move.
  virtual std::optional<CounterInfo> find_step(const std::function<double()>& /*clock*/) {
    return std::nullopt;
  }
};

// No single processor or GPU draws more than this: a higher reading means a broken counter.
inline constexpr double kMaxWatts = 5000;

struct EnergyReport {
  // Of the external meter; without one of the processors that did the work, the sum of their
  // measured figures; else the estimate. Nothing: see reasons.
  std::optional<EnergyFigure> total;
  std::vector<EnergyFigure> parts;   // every device, GPUs included
  std::vector<std::string> reasons;  // why a device is missing, and what the user can do
};

// Measures windows with every source this machine has. While a window is open a thread samples the
// counters.
class EnergyMeter {
 public:
  explicit EnergyMeter(EnergyOptions options = {});
  ~EnergyMeter();
  EnergyMeter(const EnergyMeter&) = delete;
  EnergyMeter& operator=(const EnergyMeter&) = delete;

  void start();
  EnergyReport stop();
  double now() const { return options_.clock(); }

  // False if there are only estimates: repetitions and idle baselines are useless then.
  bool measures() const { return !sources_.empty(); }
  // Of every counter that moves; watched once, which takes up to some seconds.
  const std::vector<CounterInfo>& counters();
  // A window in which every counter makes at least this many steps; 0 without counters.
  double seconds_for_steps(int steps);
  // Why devices are missing, as known from the start.
  const std::vector<std::string>& unavailable() const { return unavailable_; }

 private:
  void sample_until_stopped();
  double interval() const;

  EnergyOptions options_;
  std::vector<std::unique_ptr<EnergySource>> sources_;
  std::unique_ptr<EnergySource> estimate_;
  std::vector<std::string> unavailable_;
  std::optional<std::vector<CounterInfo>> counters_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool running_ = false;
  std::thread sampler_;
};

}  // namespace qwb
