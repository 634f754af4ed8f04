#include "lib/evaluate/energy/counter.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

namespace qwb {
namespace {
// Counters step (RAPL every ms, NVML every 20-100 ms): a sample just after a step shows the energy
// of a time before the window.
constexpr double kStepSeconds = 0.2;
}  // namespace

WrappingCounter::WrappingCounter(std::string name, double unit, std::optional<uint64_t> range)
    : name_(std::move(name)), unit_(unit), range_(range) {}

void WrappingCounter::start(uint64_t value, double now) {
  last_value_ = value;
  last_time_ = now;
  joules_ = 0;
  reason_.clear();
}

void WrappingCounter::sample(uint64_t value, double now) {
  if (!reason_.empty()) return;
  const double seconds = now - last_time_;
  double delta = 0;
  if (value >= last_value_) {
    delta = static_cast<double>(value - last_value_) * unit_;
  } else if (!range_ || last_value_ > *range_) {
    return fail(
        fmt::format("{} went backwards, and the range after which it wraps is not known", name_));
  } else {
    delta = (static_cast<double>(*range_ - last_value_) + static_cast<double>(value)) * unit_;
  }
  if (delta > kMaxWatts * (seconds + kStepSeconds)) {
    return fail(fmt::format("{} claims {:.4g} J in {:.3g} s: it was reset or is broken", name_,
                            delta, seconds));
  }
  joules_ += delta;
  last_value_ = value;
  last_time_ = now;
}

void WrappingCounter::fail(const std::string& reason) {
  if (reason_.empty()) reason_ = reason;
}

std::optional<double> WrappingCounter::joules() const {
  if (!reason_.empty() || joules_ <= 0) return std::nullopt;
  return joules_;
}

std::string WrappingCounter::reason() const {
  if (!reason_.empty()) return reason_;
  return joules_ <= 0 ? name_ + " did not move (a frozen counter, or too short a window)" : "";
}

namespace {
double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}
}  // namespace

std::optional<CounterStep> find_counter_step(const std::function<std::optional<double>()>& joules,
                                             const std::function<double()>& clock, double pause,
                                             double limit, int changes) {
  std::vector<double> times, steps;
  const double begin = clock();
  std::optional<double> last = joules();
  double last_change = -1;  // the first change ends a step whose begin was not seen
  while (clock() - begin < limit && static_cast<int>(times.size()) < changes) {
    std::this_thread::sleep_for(std::chrono::duration<double>(pause));
    const std::optional<double> value = joules();
    const double now = clock();
    if (value && last && *value > *last) {
      if (last_change >= 0) {
        times.push_back(now - last_change);
        steps.push_back(*value - *last);
      }
      last_change = now;
    }
    if (value) last = value;
  }
  if (times.size() < 2) return std::nullopt;
  return CounterStep{median_of(std::move(times)), median_of(std::move(steps))};
}

}  // namespace qwb
