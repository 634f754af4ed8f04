#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "lib/base/error.h"
#include "lib/evaluate/energy/energy.h"
#include "lib/evaluate/energy/estimate.h"
#include "lib/evaluate/energy/nvml.h"
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

}  // namespace

EnergyMeter::EnergyMeter(EnergyOptions options) : options_(std::move(options)) {
  if (options_.declared_watts && !(*options_.declared_watts > 0 && *options_.declared_watts < 1e6)) {
    throw Error(ErrorKind::usage, "the power of the machine must be between 0 and 1000000 watts");
  }
  if (!options_.clock) options_.clock = steady_seconds;
  sources_ = rapl_sources(options_.powercap, options_.cpuinfo, unavailable_);
  for (auto& gpu : nvml_sources(options_.nvml_library, unavailable_)) sources_.push_back(std::move(gpu));
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

EnergyReport EnergyMeter::stop() {
  {
    const std::lock_guard lock(mutex_);
    running_ = false;
  }
  wake_.notify_all();
  if (sampler_.joinable()) sampler_.join();
  const double now = options_.clock();
  EnergyReport report;
  report.reasons = unavailable_;
  std::vector<EnergyFigure> processors;
  bool incomplete = false;  // a sum without one of the packages would be no total
  for (auto& source : sources_) {
    const EnergyOutcome outcome = source->stop(now);
    if (!outcome.figure) {
      report.reasons.push_back(outcome.reason);
      incomplete |= source->is_processor();
      continue;
    }
    report.parts.push_back(*outcome.figure);
    if (source->is_processor()) processors.push_back(*outcome.figure);
  }
  if (!processors.empty() && !incomplete) {
    report.total = sum(processors);
    return report;
  }
  const EnergyOutcome guess = estimate_->stop(now);
  if (!guess.figure) {
    report.reasons.push_back(guess.reason);
    return report;
  }
  report.total = guess.figure;
  if (processors.empty()) report.parts.push_back(*guess.figure);
  return report;
}

}  // namespace qwb
