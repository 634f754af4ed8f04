#include "tools/common/quantities.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <ctime>
#include <map>

#include "lib/base/error.h"

namespace qwb {
namespace {

// `text` = number and unit, in units of 1.
int64_t parse_amount(const std::string& text, const std::map<std::string, double>& units,
                     const char* expected) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(end, text.data() + text.size());
  unit.erase(0, unit.find_first_not_of(' '));
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  const auto known = units.find(unit);
  const double value = known == units.end() ? -1 : number * known->second;
  // Beyond 2^62 the product could not be held; NaN fails both comparisons.
  if (text.empty()) throw Error(ErrorKind::usage, std::string("an empty value is not ") + expected);
  if (error != std::errc() || !(value >= 0) || !(value < 0x1p62)) {
    throw Error(ErrorKind::usage, "'" + text + "' is not " + expected);
  }
  return static_cast<int64_t>(value);
}

}  // namespace

int64_t parse_bytes(const std::string& text) {
  static const std::map<std::string, double> units = {
      {"", 1},         {"b", 1},        {"k", 1e3},      {"kb", 1e3},    {"m", 1e6},
      {"mb", 1e6},     {"g", 1e9},      {"gb", 1e9},     {"t", 1e12},    {"tb", 1e12},
      {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40}};
  return parse_amount(text, units, "a number of bytes (500MB, 10GB, 2GiB)");
}

int64_t parse_age(const std::string& text) {
  static const std::map<std::string, double> units = {
      {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 604800}};
  return parse_amount(text, units, "an age with its unit (90s, 15m, 12h, 30d, 2w)");
}

std::string local_time(int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm fields{};
  localtime_r(&time, &fields);
  std::array<char, 32> text{};
  const size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M", &fields);
  return {text.data(), size};
}

}  // namespace qwb
