#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "lib/base/error.h"
#include "lib/evaluate/energy/energy.h"
#include "lib/evaluate/energy/estimate.h"
#include "lib/evaluate/energy/external_meter.h"
#include "lib/evaluate/energy/nvml.h"
#include "lib/evaluate/energy/perf.h"
#include "lib/evaluate/energy/rapl.h"

namespace qwb {
namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void join(std::string& list, const std::string& item, const char* separator) {
  if (item.empty()) return;
  list += (list.empty() ? "" : separator) + item;
}

// Packages are disjoint: their joules add up.
EnergyFigure sum(const std::vector<EnergyFigure>& figures) {
  EnergyFigure total = figures.front();
  for (size_t i = 1; i < figures.size(); ++i) {
    total.joules += figures[i].joules;
    total.watts += figures[i].watts;
    join(total.device, figures[i].device, "+");
    if (figures[i].domain != total.domain) join(total.domain, figures[i].domain, ", ");
    if (figures[i].remark != total.remark) join(total.remark, figures[i].remark, "; ");
  }
  return total;
}

bool all_readable(const std::vector<std::unique_ptr<EnergySource>>& sources) {
  return !sources.empty() && std::all_of(sources.begin(), sources.end(),
                                         [](const auto& source) { return source->readable(); });
}

// The processor's packages by powercap; where that is not there or not allowed, by perf.
std::vector<std::unique_ptr<EnergySource>> processor_sources(const EnergyOptions& options,
                                                             std::vector<std::string>& reasons) {
  std::vector<std::string> powercap_reasons, perf_reasons;
  auto powercap = rapl_sources(options.powercap, options.cpuinfo, powercap_reasons);
  if (!all_readable(powercap)) {
    auto perf = perf_sources(options.perf, options.perf_reader, options.cpuinfo, perf_reasons);
    if (!perf.empty()) return perf;
  }
  reasons.insert(reasons.end(), powercap_reasons.begin(), powercap_reasons.end());
  reasons.insert(reasons.end(), perf_reasons.begin(), perf_reasons.end());
  return powercap;
}

}  // namespace

EnergyMeter::EnergyMeter(EnergyOptions options) : options_(std::move(options)) {
  if (options_.declared_watts &&
      !(*options_.declared_watts > 0 && *options_.declared_watts < 1e6)) {
    throw Error(ErrorKind::usage, "the power of the machine must be between 0 and 1000000 watts");
  }
  if (!options_.clock) options_.clock = steady_seconds;
  if (!options_.perf_reader) options_.perf_reader = kernel_perf_reader();
  for (auto& package : processor_sources(options_, unavailable_))
    sources_.push_back(std::move(package));
  for (auto& gpu : nvml_sources(options_.nvml_library, unavailable_))
    sources_.push_back(std::move(gpu));
  // Last: at a window's end it waits for its next reading.
  if (!options_.meter_command.empty())
    sources_.push_back(external_meter(options_.meter_command, options_.clock));
  estimate_ = estimate_source(options_.declared_watts, options_.cpuinfo);
}

EnergyMeter::~EnergyMeter() {
  if (sampler_.joinable()) stop();
}

void EnergyMeter::start() {
  if (sampler_.joinable()) stop();
  running_ = true;
  const double now = options_.clock();
  for (auto& source : sources_) source->start(now);
  estimate_->start(now);
  sampler_ = std::thread([this] { sample_until_stopped(); });
}

double EnergyMeter::interval() const {
  double shortest = 5;
  for (const auto& source : sources_) shortest = std::min(shortest, source->sample_interval());
  return shortest;
}

void EnergyMeter::sample_until_stopped() {
  std::unique_lock lock(mutex_);
  const std::chrono::duration<double> pause(interval());
  while (!wake_.wait_for(lock, pause, [this] { return !running_; })) {
    const double now = options_.clock();
    for (auto& source : sources_) source->sample(now);
  }
}

const std::vector<CounterInfo>& EnergyMeter::counters() {
  if (counters_) return *counters_;
  counters_.emplace();
  for (auto& source : sources_) {
    if (auto found = source->find_step(options_.clock)) counters_->push_back(*found);
  }
  return *counters_;
}

double EnergyMeter::seconds_for_steps(int steps) {
  double longest = 0;
  for (const CounterInfo& counter : counters()) longest = std::max(longest, counter.step.seconds);
  return longest * steps;
}

EnergyReport EnergyMeter::stop() {
  {
    const std::lock_guard lock(mutex_);
    running_ = false;
  }
  wake_.notify_all();
  if (sampler_.joinable()) sampler_.join();
  const double now = options_.clock();
  const EnergyOutcome guess = estimate_->stop(now);
  EnergyReport report;
  report.reasons = unavailable_;
  std::vector<EnergyFigure> machine, processors;
  bool incomplete = false;  // a sum without one of the packages would be no total
  for (auto& source : sources_) {
    const EnergyOutcome outcome = source->stop(now);
    const bool processor = source->scope() == EnergySource::Scope::processor;
    if (!outcome.figure) {
      report.reasons.push_back(outcome.reason);
      incomplete |= processor;
      continue;
    }
    report.parts.push_back(*outcome.figure);
    if (processor) processors.push_back(*outcome.figure);
    if (source->scope() == EnergySource::Scope::machine) machine.push_back(*outcome.figure);
  }
  if (!machine.empty()) {
    report.total = machine.front();
  } else if (!processors.empty() && !incomplete) {
    report.total = sum(processors);
  } else if (guess.figure) {
    report.total = guess.figure;
    if (processors.empty()) report.parts.push_back(*guess.figure);
  } else {
    report.reasons.push_back(guess.reason);
  }
  return report;
}

}  // namespace qwb
