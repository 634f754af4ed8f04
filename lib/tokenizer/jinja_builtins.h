// The filters, tests, methods and functions that chat templates may use. Names and meaning are Jinja's and
// Python's.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/tokenizer/jinja_value.h"

namespace qwb::jinja {

// What a rendering may still spend, counted in about bytes touched, so that a hostile template ends in an
// error instead of a hang.
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
  // The argument at `index` or called `name`; null if it is not given.
  const Value* find(size_t index, std::string_view name) const;
  Value get(size_t index, std::string_view name, const Value& fallback) const;
  bool flag(size_t index, std::string_view name, bool fallback) const;
  int64_t integer(size_t index, std::string_view name, int64_t fallback) const;
};

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments, Budget& budget);
bool apply_test(std::string_view name, const Value& value, const Arguments& arguments, Budget& budget);
// object.name(arguments) for text, lists, dicts and loops.
Value call_method(const Value& object, std::string_view name, const Arguments& arguments, Budget& budget);
bool has_method(const Value& object, std::string_view name);

// object.name and object[key], as Jinja looks them up. Undefined if there is none; fails on an undefined
// object.
Value get_attribute(const Value& object, const std::string& name);
Value get_item(const Value& object, const Value& key, Budget& budget);
// a.b.0 along dots, as in selectattr and map(attribute=...).
Value get_path(const Value& object, const Value& path, Budget& budget);

bool contains(const Value& container, const Value& item, Budget& budget);
bool compare(std::string_view symbol, const Value& a, const Value& b, Budget& budget);
Value arithmetic(std::string_view symbol, const Value& a, const Value& b, Budget& budget);

// Text helpers shared by filters and methods.
std::string upper_text(const std::string& text);
std::string lower_text(const std::string& text);
std::string capitalize_text(const std::string& text);
std::string title_text(const std::string& text);
// `characters` null: white space.
std::string strip_text(std::string_view text, const Value* characters, bool left, bool right);
std::string replace_text(std::string_view text, std::string_view from, std::string_view to, int64_t count,
                         Budget& budget);
std::vector<std::string_view> split_lines(std::string_view text);

}  // namespace qwb::jinja
