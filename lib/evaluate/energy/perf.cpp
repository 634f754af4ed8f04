#include "lib/evaluate/energy/perf.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include "lib/evaluate/energy/counter.h"
#include "lib/evaluate/energy/sysfs.h"

namespace qwb {
namespace {

constexpr double kPerfInterval = 2;  // keeps a broken counter apart from a working one

// One kind of counter: "energy-pkg" or "energy-ram".
struct Event {
  uint64_t config = 0;
  double unit = 0;  // joules per count
};

// "event=0x02"; energy-pkg.scale "2.3283064365386962890625e-10", energy-pkg.unit "Joules".
std::optional<Event> find_event(const Path& power, const std::string& name) {
  const std::string text = read_sysfs_line(power / "events" / name).first;
  const std::string scale = read_sysfs_line(power / "events" / (name + ".scale")).first;
  const std::string unit = read_sysfs_line(power / "events" / (name + ".unit")).first;
  constexpr std::string_view kKey = "event=0x";
  Event event;
  if (!text.starts_with(kKey) || unit != "Joules") return std::nullopt;
  const char* const end = text.data() + text.size();
  if (std::from_chars(text.data() + kKey.size(), end, event.config, 16).ptr != end)
    return std::nullopt;
  const auto [stop, error] = std::from_chars(scale.data(), scale.data() + scale.size(), event.unit);
  if (error != std::errc() || stop != scale.data() + scale.size()) return std::nullopt;
  if (!(event.unit > 0) || !std::isfinite(event.unit)) return std::nullopt;
  return event;
}

// "0,28" or "0-1": one processor of every package.
std::vector<int> parse_processors(const std::string& text) {
  std::vector<int> list;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int first = 0;
    auto result = std::from_chars(at, end, first);
    int last = first;
    if (result.ec == std::errc() && result.ptr < end && *result.ptr == '-')
      result = std::from_chars(result.ptr + 1, end, last);
    if (result.ec != std::errc() || first < 0 || last < first || last - first > 4096) return {};
    for (int i = first; i <= last; ++i) list.push_back(i);
    at = result.ptr < end && *result.ptr == ',' ? result.ptr + 1 : end;
  }
  return list;
}

// An open counter and its window.
class Counter {
 public:
  Counter(std::string name, std::shared_ptr<PerfReader> reader, int handle, double unit)
      : name_(std::move(name)),
        reader_(std::move(reader)),
        handle_(handle),
        unit_(unit),
        counter_(name_, unit, std::nullopt) {}
  ~Counter() { reader_->close(handle_); }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;

  void start(double now) {
    const auto value = reader_->read(handle_);
    counter_.start(value.value_or(0), now);
    if (!value) counter_.fail(name_ + " cannot be read any more");
  }
  void sample(double now) {
    const auto value = reader_->read(handle_);
    value ? counter_.sample(*value, now) : counter_.fail(name_ + " cannot be read any more");
  }
  std::optional<double> joules_now() const {
    const auto value = reader_->read(handle_);
    return value ? std::optional(static_cast<double>(*value) * unit_) : std::nullopt;
  }
  const WrappingCounter& window() const { return counter_; }

 private:
  std::string name_;
  std::shared_ptr<PerfReader> reader_;
  int handle_;
  double unit_;
  WrappingCounter counter_;
};

class PerfPackage : public EnergySource {
 public:
  PerfPackage(std::string name, std::unique_ptr<Counter> package, std::unique_ptr<Counter> dram,
              std::string remark)
      : name_(std::move(name)),
        package_(std::move(package)),
        dram_(std::move(dram)),
        remark_(std::move(remark)) {}
  void start(double now) override {
    began_ = now;
    package_->start(now);
    if (dram_) dram_->start(now);
  }
  void sample(double now) override {
    package_->sample(now);
    if (dram_) dram_->sample(now);
  }
  EnergyOutcome stop(double now) override {
    sample(now);
    const std::optional<double> joules = package_->window().joules();
    if (!joules) return {std::nullopt, package_->window().reason()};
    EnergyFigure figure{*joules,      "rapl-perf", name_,   "package", "measured",
                        now - began_, 0,           remark_, {}};
    if (dram_ && dram_->window().joules()) {
      figure.joules += *dram_->window().joules();
      figure.domain = "package+dram";
    }
    figure.watts = figure.seconds > 0 ? figure.joules / figure.seconds : 0;
    return {figure, ""};
  }
  double sample_interval() const override { return kPerfInterval; }
  std::optional<CounterInfo> find_step(const std::function<double()>& clock) override {
    const auto step = find_counter_step([this] { return package_->joules_now(); }, clock,
                                        kRaplPollPause, kRaplPollLimit);
    return step ? std::optional(CounterInfo{name_, "rapl-perf", *step}) : std::nullopt;
  }

 private:
  std::string name_;
  std::unique_ptr<Counter> package_, dram_;
  std::string remark_;
  double began_ = 0;
};

std::string open_failure(const PerfPaths& paths, int error) {
  if (error != EACCES && error != EPERM)
    return fmt::format("perf's power/energy-pkg cannot be opened: {}", std::strerror(error));
  const std::string level = read_sysfs_line(paths.paranoid).first;
  return fmt::format(
      "perf's power/energy-pkg is not allowed (perf_event_paranoid is {}); `sudo sysctl "
      "kernel.perf_event_paranoid=0` or CAP_PERFMON grants it",
      level.empty() ? "unknown" : level);
}

}  // namespace

std::vector<std::unique_ptr<EnergySource>> perf_sources(const PerfPaths& paths,
                                                        const std::shared_ptr<PerfReader>& reader,
                                                        const Path& cpuinfo,
                                                        std::vector<std::string>& reasons) {
  const Path power = paths.events / "power";
  const auto type = parse_count(read_sysfs_line(power / "type").first);
  const std::optional<Event> package = find_event(power, "energy-pkg");
  const std::vector<int> processors = parse_processors(read_sysfs_line(power / "cpumask").first);
  if (!type || *type > UINT32_MAX || !package || processors.empty()) {
    reasons.push_back(power.string() + " has no energy counter of the processor");
    return {};
  }
  const auto kind = static_cast<uint32_t>(*type);
  const std::optional<Event> dram = find_event(power, "energy-ram");
  std::vector<std::unique_ptr<EnergySource>> sources;
  for (const int processor : processors) {
    const Path topology = paths.processors / fmt::format("cpu{}", processor) / "topology";
    const auto socket = parse_count(read_sysfs_line(topology / "physical_package_id").first);
    const std::string name =
        socket ? fmt::format("package-{}", *socket) : fmt::format("cpu{}", processor);
    const int handle = reader->open(kind, package->config, processor);
    if (handle < 0) {
      reasons.push_back(open_failure(paths, -handle));
      return {};
    }
    auto counter =
        std::make_unique<Counter>("perf's energy-pkg of " + name, reader, handle, package->unit);
    const int memory = dram ? reader->open(kind, dram->config, processor) : -1;
    auto second = memory < 0 ? nullptr
                             : std::make_unique<Counter>("perf's energy-ram of " + name, reader,
                                                         memory, dram->unit);
    sources.push_back(std::make_unique<PerfPackage>(name, std::move(counter), std::move(second),
                                                    sgx_remark(cpuinfo)));
  }
  return sources;
}

}  // namespace qwb
