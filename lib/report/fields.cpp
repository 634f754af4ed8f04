#include "lib/report/fields.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"

namespace qwb::report {

namespace {

// The element of an object or a list; null without.
const Json* element(const Json& value, const std::string& name) {
  if (value.is_object()) return value.contains(name) ? &value.at(name) : nullptr;
  const bool index = value.is_array() && !name.empty() && name.size() < 10 &&
                     name.find_first_not_of("0123456789") == std::string::npos;
  return index && std::stoul(name) < value.size() ? &value.at(std::stoul(name)) : nullptr;
}

}  // namespace

// By hand: nlohmann's contains() throws where a name meets a list.
const Json* Fields::find(const std::string& pointer) const {
  const Json* value = &record_;
  for (size_t begin = 1; value != nullptr && begin <= pointer.size();) {
    const size_t end = std::min(pointer.find('/', begin), pointer.size());
    value = element(*value, pointer.substr(begin, end - begin));
    begin = end + 1;
  }
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::optional<double> Fields::number(const std::string& pointer) const {
  const Json* value = find(pointer);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>()))
    throw Error(ErrorKind::failed, pointer.substr(1) + " is not a number", where_);
  return value->get<double>();
}

int64_t Fields::integer(const std::string& pointer) const {
  const double value = number(pointer).value_or(0);
  if (std::abs(value) > 9e15)
    throw Error(ErrorKind::failed, pointer.substr(1) + " is out of range", where_);
  return static_cast<int64_t>(value);
}

std::string Fields::text(const std::string& pointer) const {
  const Json* value = find(pointer);
  if (value == nullptr) return {};
  if (!value->is_string())
    throw Error(ErrorKind::failed, pointer.substr(1) + " is not a text", where_);
  return value->get<std::string>();
}

std::optional<Interval> Fields::interval(const std::string& pointer) const {
  if (!has(pointer)) return std::nullopt;
  const auto low = number(pointer + "/0"), high = number(pointer + "/1");
  if (!low || !high) return std::nullopt;
  if (*low > *high)
    throw Error(ErrorKind::failed, pointer.substr(1) + " ends before it begins", where_);
  return Interval{*low, *high};
}

Figure Fields::estimate(const std::string& pointer, const std::string& why) const {
  Figure figure;
  figure.value = number(pointer + "/value");
  figure.error = number(pointer + "/stderr");
  figure.bounds = interval(pointer + "/interval");
  figure.why = why;
  return figure;
}

}  // namespace qwb::report
