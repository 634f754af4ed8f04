// The readings of an external meter as one rising curve of joules, from which any window can be
// taken.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/evaluate/energy/energy.h"

namespace qwb {

class MeterSeries {
 public:
  // "12.5 W", "3400 J", also mW, kW, mJ, kJ, Wh and kWh: power now, or a counter's reading; one
  // kind throughout. Empty lines count for nothing. False and a reason() for anything else: a
  // negative or absurd number, a counter that falls. A power of 0 is left out: a meter that works
  // never shows it.
  bool add(const std::string& line, double now);
  const std::string& reason() const { return reason_; }
  size_t size() const { return points_.size(); }
  double last_time() const { return points_.empty() ? -1 : points_.back().time; }
  // The median time and the median difference between readings; nothing with fewer than three.
  std::optional<CounterStep> step() const;
  // Joules between two times; between readings the curve is straight, and it goes on straight for
  // as long as two readings are apart. Nothing, with the reason in `why`, where that does not
  // reach, or if it did not rise.
  std::optional<double> joules(double begin, double end, std::string& why) const;

 private:
  struct Point {
    double time = 0;
    double joules = 0;  // since the first reading
  };
  bool fail(const std::string& line, const std::string& what);
  bool add_value(const std::string& line, double value, bool power, double now);
  std::optional<double> at(double time) const;
  void thin_out();

  std::vector<Point> points_;
  std::optional<bool> power_;
  double last_value_ = 0;
  std::string reason_;
};

}  // namespace qwb
