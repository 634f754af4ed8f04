#include "lib/evaluate/energy/counter.h"

#include <fmt/format.h>

#include <utility>

#include "lib/evaluate/energy/energy.h"

namespace qwb {
namespace {
// Counters step (RAPL every ms, NVML every 20-100 ms): a sample just after a step shows the energy of a time
// before the window.
constexpr double kStepSeconds = 0.2;
}  // namespace

WrappingCounter::WrappingCounter(std::string name, double unit, std::optional<uint64_t> range)
    : name_(std::move(name)), unit_(unit), range_(range) {}

void WrappingCounter::start(uint64_t value, double now) {
  last_value_ = value;
  last_time_ = now;
  wrapped_ = false;
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
    return fail(fmt::format("{} went backwards, and the range after which it wraps is not known", name_));
  } else {
    delta = (static_cast<double>(*range_ - last_value_) + static_cast<double>(value)) * unit_;
    const double whole = static_cast<double>(*range_) * unit_;
    if (wrapped_ && whole > kMaxWatts * (now - last_wrap_ + kStepSeconds)) {
      return fail(fmt::format("{} fell twice within {:.3g} s: it was reset", name_, now - last_wrap_));
    }
    wrapped_ = true;
    last_wrap_ = now;
  }
  if (delta > kMaxWatts * (seconds + kStepSeconds)) {
    return fail(
        fmt::format("{} claims {:.4g} J in {:.3g} s: it was reset or is broken", name_, delta, seconds));
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

}  // namespace qwb
