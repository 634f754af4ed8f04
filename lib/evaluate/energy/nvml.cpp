#include "lib/evaluate/energy/nvml.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "lib/evaluate/energy/counter.h"

namespace qwb {
namespace {

// The counter steps every 20-100 ms and power is an average of up to 1 s: sampling faster brings
// nothing.
constexpr double kNvmlInterval = 0.1;
// Counter and integrated power that differ by more than this are reported, in windows long enough
// for both.
constexpr double kDisagreement = 0.05;
constexpr double kLongEnough = 5;
constexpr double kNvmlPollPause = 1e-3;
constexpr double kNvmlPollLimit = 2;

// The part of nvml.h (NVML API reference) that is used here. Every function returns 0 for success,
// 3 for "not supported".
using Device = void*;
struct Functions {
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*handle)(unsigned, Device*) = nullptr;
  int (*name)(Device, char*, unsigned) = nullptr;
  int (*energy)(Device, unsigned long long*) = nullptr;
  int (*power)(Device, unsigned*) = nullptr;
  // Optional:
  int (*mig)(Device, unsigned*, unsigned*) = nullptr;
  int (*temperature)(Device, int, unsigned*) = nullptr;  // sensor 0: the GPU; degrees Celsius
  int (*limit)(Device, unsigned*) = nullptr;             // milliwatts
};

// The loaded library; shut down and closed with the last source.
class Library {
 public:
  static std::shared_ptr<Library> open(const std::string& path, std::vector<std::string>& reasons) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return nullptr;  // no NVIDIA driver here: nothing to explain
    std::shared_ptr<Library> library(new Library(handle));
    if (!library->resolve()) {
      reasons.push_back(path + " lacks functions of NVML: the driver is too old");
      return nullptr;
    }
    if (const int code = library->functions.init(); code != 0) {
      reasons.push_back(fmt::format(
          "NVML does not start (code {}): the driver is not loaded or not reachable from here",
          code));
      return nullptr;
    }
    library->started_ = true;
    return library;
  }
  ~Library() {
    if (started_) functions.shutdown();
    dlclose(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  Functions functions;

 private:
  explicit Library(void* handle) : handle_(handle) {}
  template <typename F>
  bool find(F& function, const char* name) {
    function = reinterpret_cast<F>(dlsym(handle_, name));
    return function != nullptr;
  }
  bool resolve() {
    find(functions.mig, "nvmlDeviceGetMigMode");
    find(functions.temperature, "nvmlDeviceGetTemperature");
    find(functions.limit, "nvmlDeviceGetEnforcedPowerLimit");
    return find(functions.init, "nvmlInit_v2") && find(functions.shutdown, "nvmlShutdown") &&
           find(functions.count, "nvmlDeviceGetCount_v2") &&
           find(functions.handle, "nvmlDeviceGetHandleByIndex_v2") &&
           find(functions.name, "nvmlDeviceGetName") &&
           find(functions.energy, "nvmlDeviceGetTotalEnergyConsumption") &&
           find(functions.power, "nvmlDeviceGetPowerUsage");
  }

  void* handle_;
  bool started_ = false;
};

// Trapezoids over the power readings of a window.
class PowerIntegral {
 public:
  void start() { *this = PowerIntegral(); }
  void sample(double watts, double now) {
    if (!(watts > 0) || watts > kMaxWatts) return;  // discarded: the trapezoid spans the gap
    if (readings_ > 0) joules_ += (watts + last_watts_) / 2 * (now - last_time_);
    last_watts_ = watts;
    last_time_ = now;
    ++readings_;
  }
  std::optional<double> joules() const {
    return readings_ >= 2 && joules_ > 0 ? std::optional(joules_) : std::nullopt;
  }

 private:
  double joules_ = 0;
  double last_watts_ = 0;
  double last_time_ = 0;
  int readings_ = 0;
};

class Gpu : public EnergySource {
 public:
  Gpu(std::shared_ptr<Library> library, Device device, std::string name)
      : library_(std::move(library)),
        device_(device),
        name_(std::move(name)),
        counter_("the energy counter", 1e-3, std::nullopt) {}

  void start(double now) override {
    began_ = now;
    celsius_ = celsius();
    power_.start();
    unsigned long long millijoules = 0;
    const int code = library_->functions.energy(device_, &millijoules);
    counter_.start(millijoules, now);
    if (code != 0) counter_.fail(failure(code));
    sample_power(now);
  }
  void sample(double now) override {
    unsigned long long millijoules = 0;
    const int code = library_->functions.energy(device_, &millijoules);
    code == 0 ? counter_.sample(millijoules, now) : counter_.fail(failure(code));
    sample_power(now);
  }
  EnergyOutcome stop(double now) override {
    sample(now);
    const std::optional<double> counted = counter_.joules();
    const std::optional<double> integrated = power_.joules();
    if (!counted && !integrated)
      return {std::nullopt,
              fmt::format("{}: {}, and no usable power readings", name_, counter_.reason())};
    EnergyFigure figure{counted.value_or(integrated.value_or(0)),
                        counted ? "nvml-counter" : "nvml-power",
                        name_,
                        "gpu",
                        "measured",
                        now - began_,
                        0,
                        counted ? "" : counter_.reason(),
                        {}};
    figure.watts = figure.seconds > 0 ? figure.joules / figure.seconds : 0;
    figure.celsius_begin = celsius_;
    figure.celsius_end = celsius();
    figure.power_limit_watts = limit();
    if (counted) figure.integrated_joules = integrated;
    if (counted) figure.remark = power_disagreement(figure);
    return {figure, ""};
  }
  double sample_interval() const override { return kNvmlInterval; }
  Scope scope() const override { return Scope::other; }  // the model runs on the CPU
  std::optional<CounterInfo> find_step(const std::function<double()>& clock) override {
    const auto joules = [this]() -> std::optional<double> {
      unsigned long long millijoules = 0;
      if (library_->functions.energy(device_, &millijoules) != 0) return std::nullopt;
      return static_cast<double>(millijoules) * 1e-3;
    };
    const auto step = find_counter_step(joules, clock, kNvmlPollPause, kNvmlPollLimit);
    return step ? std::optional(CounterInfo{name_, "nvml-counter", *step}) : std::nullopt;
  }

 private:
  static std::string failure(int code) {
    return code == 3 ? "the energy counter is not supported"
                     : fmt::format("the energy counter cannot be read (code {})", code);
  }
  std::optional<double> celsius() const {
    unsigned degrees = 0;
    const auto read = library_->functions.temperature;
    return read != nullptr && read(device_, 0, &degrees) == 0 ? std::optional<double>(degrees)
                                                              : std::nullopt;
  }
  std::optional<double> limit() const {
    unsigned milliwatts = 0;
    const auto read = library_->functions.limit;
    if (read == nullptr || read(device_, &milliwatts) != 0 || milliwatts == 0) return std::nullopt;
    return milliwatts * 1e-3;
  }
  void sample_power(double now) {
    unsigned milliwatts = 0;
    if (library_->functions.power(device_, &milliwatts) == 0) power_.sample(milliwatts * 1e-3, now);
  }

  std::shared_ptr<Library> library_;
  Device device_;
  std::string name_;
  WrappingCounter counter_;
  PowerIntegral power_;
  std::optional<double> celsius_;
  double began_ = 0;
};

}  // namespace

std::string power_disagreement(const EnergyFigure& figure) {
  if (!figure.integrated_joules || !(figure.joules > 0) || figure.seconds < kLongEnough) return {};
  const double difference = *figure.integrated_joules / figure.joules - 1;
  if (std::abs(difference) <= kDisagreement) return {};
  return fmt::format("integrated power gives {:.4g} J, {:+.1f} %", *figure.integrated_joules,
                     100 * difference);
}

std::vector<std::unique_ptr<EnergySource>> nvml_sources(const std::string& path,
                                                        std::vector<std::string>& reasons) {
  std::vector<std::unique_ptr<EnergySource>> sources;
  const std::shared_ptr<Library> library = path.empty() ? nullptr : Library::open(path, reasons);
  if (library == nullptr) return sources;
  const Functions& nvml = library->functions;
  unsigned count = 0;
  if (nvml.count(&count) != 0) count = 0;
  for (unsigned i = 0; i < count; ++i) {
    Device device = nullptr;
    std::array<char, 128> name{};
    if (nvml.handle(i, &device) != 0) {
      reasons.push_back(fmt::format("GPU {} cannot be opened", i));
      continue;
    }
    if (nvml.name(device, name.data(), static_cast<unsigned>(name.size() - 1)) != 0)
      name = {'G', 'P', 'U'};
    const std::string label = fmt::format("{} ({})", name.data(), i);
    unsigned mig = 0;
    unsigned pending = 0;
    if (nvml.mig != nullptr && nvml.mig(device, &mig, &pending) == 0 && mig == 1) {
      reasons.push_back(label + " is divided (MIG): its counter is the whole card's");
      continue;
    }
    sources.push_back(std::make_unique<Gpu>(library, device, label));
  }
  return sources;
}

}  // namespace qwb
