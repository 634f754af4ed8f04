// Filters by name, and those of numbers.
#include "lib/chat/jinja/filters.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

namespace qwb::jinja {
namespace {

Value to_integer(const FilterCall& c) {
  const Value fallback = c.given.get(0, int64_t{0});
  int64_t whole = 0;
  if (c.value.integer(whole) != nullptr) return whole;
  if (c.value.is_undefined()) throw Failure(type_name(c.value) + " is no number");
  if (const double* real = c.value.as<double>()) {
    if (std::isnan(*real)) return fallback;
    return truncated(*real);
  }
  if (c.value.text() == nullptr) return fallback;
  if (c.given.find(1) != nullptr && c.given.at(1).integer(whole) == nullptr)
    throw Unsupported("a base that is no integer is not supported");
  if (const auto read = parse_integer(*c.value.text(), c.given.integer(1, 10))) return *read;
  const auto real = parse_real(*c.value.text());
  return real && std::isfinite(*real) ? Value(truncated(*real)) : fallback;
}

Value to_real(const FilterCall& c) {
  double number = 0;
  if (c.value.number(number)) return number;
  if (c.value.is_undefined()) throw Failure(type_name(c.value) + " is no number");
  if (c.value.text() != nullptr) {
    if (const auto read = parse_real(*c.value.text())) return *read;
  }
  return c.given.get(0, 0.0);
}

Value absolute(const FilterCall& c) {
  int64_t whole = 0;
  if (c.value.integer(whole) != nullptr) return whole < 0 ? negate(c.value, true) : Value(whole);
  if (const double* real = c.value.as<double>()) return std::abs(*real);
  throw Failure("abs needs a number, not " + type_name(c.value));
}

Value round_number(const FilterCall& c) {
  const Value precision = c.given.get(0, int64_t{0});
  const std::string method =
      c.given.find(1) != nullptr && c.given.at(1).text() != nullptr ? c.given.text(1) : "common";
  if ((c.given.find(1) != nullptr && c.given.at(1).text() == nullptr) ||
      (method != "common" && method != "ceil" && method != "floor"))
    throw Failure("round's method must be common, ceil or floor");
  if (method == "common") return round_value(c.value, precision);
  const Value scale = arithmetic("**", int64_t{10}, precision, c.budget);
  const Value scaled = arithmetic("*", c.value, scale, c.budget);
  int64_t whole = 0;
  if (!scaled.is_number()) throw Failure("round needs a number, not " + type_name(c.value));
  if (const double* real = scaled.as<double>())
    whole = truncated(method == "ceil" ? std::ceil(*real) : std::floor(*real));
  else
    scaled.integer(whole);
  return arithmetic("/", whole, scale, c.budget);
}

Value file_size(const FilterCall& c) {
  double bytes = 0;
  if (!c.value.number(bytes)) {
    const auto read = c.value.text() != nullptr ? parse_real(*c.value.text()) : std::nullopt;
    if (!read) throw Failure("filesizeformat needs a number, not " + type_name(c.value));
    bytes = *read;
  }
  const bool binary = c.given.flag(0, false);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return "1 Byte";
  if (bytes < base) return std::to_string(truncated(bytes)) + " Bytes";
  if (!std::isfinite(bytes))
    throw Unsupported("filesizeformat of infinity and NaN is not supported");
  double unit = base;
  std::string prefix;
  for (const char letter : std::string_view("kMGTPEZY")) {
    unit *= base;
    prefix =
        binary ? std::string(1, letter == 'k' ? 'K' : letter) + "iB" : std::string(1, letter) + "B";
    if (bytes < unit) break;
  }
  return format_value(base * bytes / unit, ".1f") + " " + prefix;
}

// Filters of Jinja that this engine does not have.
const std::set<std::string_view>& unsupported_filters() {
  static const std::set<std::string_view> names = {"pprint", "random", "urlize", "wordwrap"};
  return names;
}

const Filter* find_filter(std::string_view name) {
  for (const FilterTable* table : {&text_filters(), &number_filters(), &sequence_filters()}) {
    if (const auto found = table->find(name); found != table->end()) return &found->second;
  }
  return nullptr;
}

}  // namespace

const FilterTable& number_filters() {
  static const FilterTable table = {
      {"int", {"?default ?base", to_integer}},
      {"float", {"?default", to_real}},
      {"abs", {"/", absolute}},
      {"round", {"?precision ?method", round_number}},
      {"filesizeformat", {"?binary", file_size}},
  };
  return table;
}

bool is_filter(std::string_view name) {
  return find_filter(name) != nullptr || is_lazy_filter(name) || name == "format" ||
         unsupported_filters().contains(name);
}

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments,
                   Budget& budget) {
  budget.charge(value.weight() + 8);
  if (is_lazy_filter(name)) return apply_lazy_filter(name, value, arguments, budget);
  if (name == "format") return apply_format_filter(value, arguments, budget);
  if (const Filter* filter = find_filter(name)) {
    const Bound given(arguments, filter->parameters, name);
    return filter->call({value, given, budget});
  }
  if (unsupported_filters().contains(name))
    throw Unsupported("the filter '" + name + "' is not supported");
  throw Failure("there is no filter '" + name + "'");
}

}  // namespace qwb::jinja
