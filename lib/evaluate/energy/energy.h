// Joules, and where they came from. A figure always names its source, device and quality; what could not be
// measured is absent with a reason, never 0. Energy is that of the whole device while the window was open,
// idle power and other processes included.
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

namespace qwb {

struct EnergyFigure {
  double joules = 0;    // > 0
  std::string source;   // "rapl-powercap", "nvml-counter", "nvml-power" or "estimate"
  std::string device;   // "package-0", "NVIDIA H100 (0)", the processor's name
  std::string domain;   // "package", "package+dram", "gpu", "process", "declared"
  std::string quality;  // "measured" or "estimated"
  double seconds = 0;   // length of the window
  double watts = 0;     // joules / seconds
  std::string remark;   // a doubt or a formula that belongs beside the number; may be empty
};

// A figure, or why there is none.
struct EnergyOutcome {
  std::optional<EnergyFigure> figure;
  std::string reason;
};

// One device. Times are seconds on any monotonic clock, the same for all calls. Not thread-safe; never throws
// after construction.
class EnergySource {
 public:
  virtual ~EnergySource() = default;
  virtual void start(double now) = 0;
  // Called now and then while a window is open, at least every sample_interval() seconds.
  virtual void sample(double now) = 0;
  virtual EnergyOutcome stop(double now) = 0;
  virtual double sample_interval() const = 0;
  // True for the kind of device that the model runs on: only such figures enter a total.
  virtual bool is_processor() const { return true; }
};

// No processor or GPU draws more than this per device: a reading above it is a broken counter, not energy.
inline constexpr double kMaxWatts = 5000;

struct EnergyOptions {
  std::optional<double> declared_watts;   // --watts: of the machine while it works
  Path powercap = "/sys/class/powercap";  // other folders and libraries: for tests
  Path cpuinfo = "/proc/cpuinfo";
  std::string nvml_library = "libnvidia-ml.so.1";  // "" to leave GPUs alone
  std::function<double()> clock;                   // default: the steady clock
};

struct EnergyReport {
  // Of the processors that did the work: the sum of their measured figures, else the estimate. Nothing: see
  // reasons.
  std::optional<EnergyFigure> total;
  std::vector<EnergyFigure> parts;   // every device, GPUs included
  std::vector<std::string> reasons;  // why a device is missing, and what the user can do
};

// Measures windows with every source this machine has. While a window is open a thread samples the counters.
class EnergyMeter {
 public:
  explicit EnergyMeter(EnergyOptions options = {});
  ~EnergyMeter();
  EnergyMeter(const EnergyMeter&) = delete;
  EnergyMeter& operator=(const EnergyMeter&) = delete;

  void start();
  EnergyReport stop();

 private:
  void sample_until_stopped();
  double interval() const;

  EnergyOptions options_;
  std::vector<std::unique_ptr<EnergySource>> sources_;
  std::unique_ptr<EnergySource> estimate_;
  std::vector<std::string> unavailable_;  // reasons known from the start
  std::mutex mutex_;
  std::condition_variable wake_;
  bool running_ = false;
  std::thread sampler_;
};

}  // namespace qwb
