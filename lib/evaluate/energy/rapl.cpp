#include "lib/evaluate/energy/rapl.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "lib/evaluate/energy/counter.h"
#include "lib/evaluate/energy/sysfs.h"

namespace qwb {
namespace {

// Haswell servers wrap after 262 kJ, minutes at full load; 2 s also keeps a reset apart from a
// wrap.
constexpr double kRaplInterval = 2;

struct Reading {
  std::optional<uint64_t> value;
  std::string reason;
};

Reading read_energy(const Path& zone) {
  const auto [text, error] = read_sysfs_line(zone / "energy_uj");
  if (error == EACCES || error == EPERM) {
    return {std::nullopt, fmt::format("{}/energy_uj may be read by root only; `sudo chmod a+r "
                                      "{}/*/energy_uj` grants it until the next "
                                      "reboot, a udev rule for good",
                                      zone.string(), zone.parent_path().string())};
  }
  if (error != 0)
    return {std::nullopt, fmt::format("{}/energy_uj: {}", zone.string(), std::strerror(error))};
  const std::optional<uint64_t> value = parse_count(text);
  if (!value)
    return {std::nullopt,
            fmt::format("{}/energy_uj holds \"{}\", not a count", zone.string(), text)};
  return {value, ""};
}

std::optional<uint64_t> read_range(const Path& zone) {
  const auto [text, error] = read_sysfs_line(zone / "max_energy_range_uj");
  const std::optional<uint64_t> range = error == 0 ? parse_count(text) : std::nullopt;
  return range && *range > 0 ? range : std::nullopt;
}

// One zone of a window.
class Zone {
 public:
  explicit Zone(const Path& folder)
      : folder_(folder), counter_(folder.filename().string(), 1e-6, read_range(folder)) {}
  void start(double now) {
    const Reading reading = read_energy(folder_);
    counter_.start(reading.value.value_or(0), now);
    if (!reading.value) counter_.fail(reading.reason);
  }
  void sample(double now) {
    const Reading reading = read_energy(folder_);
    reading.value ? counter_.sample(*reading.value, now) : counter_.fail(reading.reason);
  }
  const WrappingCounter& counter() const { return counter_; }
  std::optional<double> joules() const {
    const Reading reading = read_energy(folder_);
    return reading.value ? std::optional(static_cast<double>(*reading.value) * 1e-6) : std::nullopt;
  }

 private:
  Path folder_;
  WrappingCounter counter_;
};

class Package : public EnergySource {
 public:
  Package(std::string name, const Path& package, const std::optional<Path>& dram,
          std::string remark)
      : name_(std::move(name)), remark_(std::move(remark)), package_(package) {
    if (dram) dram_.emplace(*dram);
  }
  void start(double now) override {
    began_ = now;
    package_.start(now);
    if (dram_) dram_->start(now);
  }
  void sample(double now) override {
    package_.sample(now);
    if (dram_) dram_->sample(now);
  }
  EnergyOutcome stop(double now) override {
    sample(now);
    const std::optional<double> joules = package_.counter().joules();
    if (!joules) return {std::nullopt, package_.counter().reason()};
    EnergyFigure figure{*joules, "rapl-powercap", name_, "package", "measured", now - began_,
                        0,       remark_,         {}};
    if (dram_ && dram_->counter().joules()) {
      figure.joules += *dram_->counter().joules();
      figure.domain = "package+dram";
    } else if (dram_) {
      figure.remark +=
          (figure.remark.empty() ? "" : "; ") + ("without dram: " + dram_->counter().reason());
    }
    figure.watts = figure.seconds > 0 ? figure.joules / figure.seconds : 0;
    return {figure, ""};
  }
  double sample_interval() const override { return kRaplInterval; }
  bool readable() const override { return package_.joules().has_value(); }
  std::optional<CounterInfo> find_step(const std::function<double()>& clock) override {
    const auto step = find_counter_step([this] { return package_.joules(); }, clock, kRaplPollPause,
                                        kRaplPollLimit);
    return step ? std::optional(CounterInfo{name_, "rapl-powercap", *step}) : std::nullopt;
  }

 private:
  std::string name_;
  std::string remark_;
  Zone package_;
  std::optional<Zone> dram_;
  double began_ = 0;
};

// "intel-rapl:0:2" lies in "intel-rapl:0".
std::string parent_of(const std::string& zone) {
  const size_t colon = zone.rfind(':');
  return colon == std::string::npos ? "" : zone.substr(0, colon);
}

struct FoundZones {
  std::map<std::string, Path> packages;  // by package name
  std::map<std::string, Path> dram;      // by package name
};

FoundZones find_zones(const Path& powercap, std::vector<std::string>& reasons) {
  FoundZones found;
  std::vector<Path> folders;
  std::error_code error;
  for (std::filesystem::directory_iterator it(powercap, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename().string().find(':') != std::string::npos)
      folders.push_back(it->path());
  }
  // Sorted, "intel-rapl-mmio:" comes before "intel-rapl:": of two appearances of a package the
  // first is kept.
  std::sort(folders.begin(), folders.end());
  std::map<std::string, std::string> names;  // zone -> its name
  for (const Path& folder : folders) {
    const auto [name, failure] = read_sysfs_line(folder / "name");
    const std::string zone = folder.filename().string();
    if (failure != 0)
      reasons.push_back(fmt::format("{}/name: {}", folder.string(), std::strerror(failure)));
    names[zone] = name;
    if (name.starts_with("package-")) found.packages.emplace(name, folder);
  }
  for (const Path& folder : folders) {
    const std::string zone = folder.filename().string();
    const std::string owner = names[parent_of(zone)];
    if (names[zone] == "dram" && owner.starts_with("package-")) found.dram.emplace(owner, folder);
  }
  return found;
}

}  // namespace

std::vector<std::unique_ptr<EnergySource>> rapl_sources(const Path& powercap, const Path& cpuinfo,
                                                        std::vector<std::string>& reasons) {
  std::vector<std::unique_ptr<EnergySource>> sources;
  const FoundZones found = find_zones(powercap, reasons);
  if (found.packages.empty()) {
    reasons.push_back(
        fmt::format("{} has no processor package (virtual machines and containers usually hide it)",
                    powercap.string()));
  }
  const std::string remark = sgx_remark(cpuinfo);
  for (const auto& [name, folder] : found.packages) {
    const auto dram = found.dram.find(name);
    const std::optional<Path> dram_folder =
        dram == found.dram.end() ? std::nullopt : std::optional<Path>(dram->second);
    sources.push_back(std::make_unique<Package>(name, folder, dram_folder, remark));
  }
  return sources;
}

}  // namespace qwb
