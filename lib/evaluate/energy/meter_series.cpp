#include "lib/evaluate/energy/meter_series.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

namespace qwb {
namespace {

constexpr double kMostWatts = 1e6;  // of one machine
constexpr size_t kMostPoints = 1 << 16;

struct Unit {
  double factor;
  bool power;
};
const std::map<std::string, Unit, std::less<>>& units() {
  static const std::map<std::string, Unit, std::less<>> all = {
      {"W", {1, true}},      {"mW", {1e-3, true}}, {"kW", {1e3, true}},   {"J", {1, false}},
      {"mJ", {1e-3, false}}, {"kJ", {1e3, false}}, {"Wh", {3600, false}}, {"kWh", {3.6e6, false}}};
  return all;
}

std::string trimmed(const std::string& line) {
  const size_t begin = line.find_first_not_of(" \t\r"), end = line.find_last_not_of(" \t\r");
  return begin == std::string::npos ? "" : line.substr(begin, end - begin + 1);
}

}  // namespace

bool MeterSeries::fail(const std::string& line, const std::string& what) {
  if (reason_.empty()) reason_ = fmt::format("\"{}\" {}", line.substr(0, 80), what);
  return false;
}

bool MeterSeries::add(const std::string& line, double now) {
  if (!reason_.empty()) return false;
  const std::string text = trimmed(line);
  if (text.empty()) return true;
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string name = trimmed(std::string(stop, text.data() + text.size()));
  const auto unit = units().find(name);
  if (error != std::errc() || unit == units().end()) return fail(text, "is not a number of W or J");
  value *= unit->second.factor;
  if (!std::isfinite(value) || value < 0) return fail(text, "cannot be");
  if (power_ && *power_ != unit->second.power)
    return fail(text, "comes after readings of another kind");
  power_ = unit->second.power;
  return add_value(text, value, *power_, now);
}

bool MeterSeries::add_value(const std::string& line, double value, bool power, double now) {
  if (power && value > kMostWatts) return fail(line, "is no power of one machine");
  if (power && value == 0) return true;
  if (points_.empty()) {
    points_.push_back({now, 0});
    last_value_ = value;
    return true;
  }
  const Point& last = points_.back();
  const double seconds = now - last.time;
  if (!(seconds > 0)) return true;  // two lines in one breath: the first stands
  double joules = power ? (value + last_value_) / 2 * seconds : value - last_value_;
  if (joules < 0) return fail(line, "is below the reading before: the meter was reset");
  if (joules > kMostWatts * (seconds + 1))
    return fail(line, "is an absurd jump: the meter was reset");
  points_.push_back({now, last.joules + joules});
  last_value_ = value;
  if (points_.size() > kMostPoints) thin_out();
  return true;
}

// Every second point leaves, the newest stays: the curve keeps its ends.
void MeterSeries::thin_out() {
  size_t kept = 0;
  for (size_t i = (points_.size() - 1) % 2; i < points_.size(); i += 2)
    points_[kept++] = points_[i];
  points_.resize(kept);
}

std::optional<CounterStep> MeterSeries::step() const {
  if (points_.size() < 3) return std::nullopt;
  std::vector<double> seconds, joules;
  for (size_t i = 1; i < points_.size(); ++i) {
    seconds.push_back(points_[i].time - points_[i - 1].time);
    joules.push_back(points_[i].joules - points_[i - 1].joules);
  }
  const auto middle = static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), seconds.begin() + middle, seconds.end());
  std::nth_element(joules.begin(), joules.begin() + middle, joules.end());
  return CounterStep{seconds[middle], joules[middle]};
}

std::optional<double> MeterSeries::at(double time) const {
  if (points_.size() < 2) return std::nullopt;
  const auto after = std::upper_bound(points_.begin() + 1, points_.end() - 1, time,
                                      [](double t, const Point& point) { return t < point.time; });
  const Point &right = *after, &left = *(after - 1);
  const double gap = right.time - left.time;
  if (time < left.time - gap || time > right.time + gap) return std::nullopt;
  return left.joules + (right.joules - left.joules) * (time - left.time) / gap;
}

std::optional<double> MeterSeries::joules(double begin, double end, std::string& why) const {
  const std::optional<double> from = at(begin), to = at(end);
  if (!reason_.empty()) {
    why = reason_;
  } else if (!from || !to) {
    why = fmt::format("it gave no reading near the {} of the window", from ? "end" : "begin");
  } else if (!(*to > *from)) {
    why = "its counter did not move (a frozen counter, or too short a window)";
  } else {
    return *to - *from;
  }
  return std::nullopt;
}

}  // namespace qwb
