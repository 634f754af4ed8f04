// A hardware energy counter, which may wrap, be reset, freeze or report nonsense. Readings become
// joules only while they are plausible.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "lib/evaluate/energy/energy.h"

namespace qwb {

class WrappingCounter {
 public:
  // unit: joules per count. range: counts after which the counter starts again at 0, if known.
  // name: for reasons.
  WrappingCounter(std::string name, double unit, std::optional<uint64_t> range);

  void start(uint64_t value, double now);
  // At most one wrap is assumed between two samples, and only if that much energy can have been
  // spent in the time.
  void sample(uint64_t value, double now);
  // A reading failed: the window is lost.
  void fail(const std::string& reason);

  // Joules since start(); nothing when a reading made no sense or the counter did not move
  // (reason() says which).
  std::optional<double> joules() const;
  std::string reason() const;

 private:
  std::string name_;
  double unit_;
  std::optional<uint64_t> range_;
  uint64_t last_value_ = 0;
  double last_time_ = 0;
  double joules_ = 0;
  std::string reason_;
};

// RAPL counters step every millisecond; broken virtual ones never do.
inline constexpr double kRaplPollPause = 1e-4;
inline constexpr double kRaplPollLimit = 0.5;

// Watches a counter until it changed `changes` times or `limit` seconds passed, reading it every
// `pause` seconds; `joules` gives its value or nothing. Falls are left out. Nothing with fewer than
// three changes.
std::optional<CounterStep> find_counter_step(const std::function<std::optional<double>()>& joules,
                                             const std::function<double()>& clock, double pause,
                                             double limit, int changes = 20);

}  // namespace qwb
