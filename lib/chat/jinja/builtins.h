// The filters, tests, methods, operators and lookups that chat templates use. Names, parameters and
// meaning are Jinja's and Python's; features of theirs that are not supported here throw
// Unsupported.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/chat/jinja/value.h"

namespace qwb::jinja {

// The budget that is left to a rendering, counted roughly in bytes touched, so that a hostile
// template ends in an error instead of a hang.
struct Budget {
  int64_t left;
  void charge(int64_t amount) {
    left -= amount;
    if (left < 0) throw Failure("the template does too much work or makes too much text");
  }
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Arguments in the order of a function's parameters.
class Bound {
 public:
  // `parameters`: names in order, separated by spaces; "?" before a name makes it optional, a final
  // "/" allows positions only. Throws as Python does for too many, too few and unknown ones. `what`
  // is for the message.
  Bound(const Arguments& given, std::string_view parameters, std::string_view what);
  const Value* find(size_t i) const { return values_[i]; }
  // None counts as absent.
  const Value* find_some(size_t i) const {
    return values_[i] != nullptr && values_[i]->is_none() ? nullptr : values_[i];
  }
  const Value& at(size_t i) const { return *values_[i]; }
  Value get(size_t i, const Value& fallback) const {
    return values_[i] != nullptr ? *values_[i] : fallback;
  }
  bool flag(size_t i, bool fallback) const {
    return values_[i] != nullptr ? values_[i]->truth() : fallback;
  }
  // Integers and bools; anything else, None too, is an error.
  int64_t integer(size_t i, int64_t fallback) const;
  const std::string& text(size_t i) const;

 private:
  std::vector<const Value*> values_;
  std::string_view what_;
};

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments,
                   Budget& budget);
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments,
                Budget& budget);
// Whether Jinja knows one of that name.
bool is_filter(std::string_view name);
bool is_test(std::string_view name);

// object.name(arguments) for text, lists, dicts, numbers and loops.
Value call_method(const Value& object, const std::string& name, const Arguments& arguments,
                  Budget& budget);
// str.join on a text or Markup.
Value join_text(const Value& separator, const Value& parts, Budget& budget);

// object.name and object[key], as Jinja looks them up. Undefined if there is none; fails on an
// undefined object.
Value get_attribute(const Value& object, const std::string& name);
Value get_item(const Value& object, const Value& key, Budget& budget);
// The attribute alone, never a dict's item of that name.
Value get_attribute_only(const Value& object, const std::string& name);
// object[start:stop:step]; null parts are absent.
Value get_slice(const Value& object, const Value* start, const Value* stop, const Value* step,
                Budget& budget);
// The parts of an attribute as filters take it: "a.b.0" along dots, an integer, or none at all.
std::vector<Value> attribute_parts(const Value* attribute);
Value get_path(const Value& object, const std::vector<Value>& parts, const Value* fallback,
               Budget& budget);

bool contains(const Value& container, const Value& item, Budget& budget);
bool compare(std::string_view symbol, const Value& a, const Value& b, Budget& budget);
Value arithmetic(std::string_view symbol, const Value& a, const Value& b, Budget& budget);
Value negate(const Value& value, bool minus);
// `text % values` and `text.format(...)`.
Value percent_format(const Value& text, const Value& values, Budget& budget);
Value brace_format(const Value& text, const Arguments& arguments, Budget& budget);
// format(value, specification).
std::string format_value(const Value& value, const std::string& specification);

// int(text, base) and float(text) of Python; nothing where those raise ValueError.
std::optional<int64_t> parse_integer(std::string_view text, int64_t base);
std::optional<double> parse_real(std::string_view text);
// int(number): fails for infinity and NaN.
int64_t truncated(double value);
Value round_value(const Value& value, const Value& precision);

// markupsafe.escape: Markup stays as it is.
Value escape(const Value& value);
// dict(...) with the arguments of a call.
std::vector<std::pair<Value, Value>> dict_items(const Arguments& given, const char* what,
                                                Budget& budget);
void set_item(std::vector<std::pair<Value, Value>>& items, Value key, Value value);

// Text helpers shared by filters and methods.
// `characters` null: white space.
std::string_view strip_text(std::string_view text, const std::string* characters, bool left,
                            bool right);
std::string replace_text(std::string_view text, std::string_view from, std::string_view to,
                         int64_t count, Budget& budget);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends = false);
// Code points [begin, end) of a text; clamped.
std::string_view part_of(std::string_view text, int64_t begin, int64_t end);
// str.center, ljust and rjust; `side` is '^', '<' or '>'.
std::string pad_text(std::string_view text, int64_t width, std::string_view fill, char side);

}  // namespace qwb::jinja
