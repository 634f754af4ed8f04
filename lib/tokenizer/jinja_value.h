// Values of chat templates: Python's, as far as Jinja templates see them. Lists and dicts never change once
// made (transformers renders in an immutable sandbox), so they are shared freely and cannot form cycles.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "lib/base/json.h"

namespace qwb::jinja {

// What went wrong while a template was read or rendered; becomes a qwb::Error that names the line.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// raise_exception() of the template: the messages are not what it accepts.
struct Refusal : Failure {
  using Failure::Failure;
};

class Value;
struct Statement;

struct Undefined {
  std::string name;  // for the message
};
struct ListBody {
  std::vector<Value> items;
  bool tuple = false;
  int depth = 1;
  int64_t weight = 1;  // characters and items inside, shared parts counted as often as they appear
};
struct DictBody {
  std::vector<std::pair<Value, Value>> items;  // in order of insertion
  int depth = 1;
  int64_t weight = 1;
};
struct Namespace {
  std::vector<std::pair<std::string, Value>> items;
};
// The state of one `for`: what `loop` shows.
struct LoopBody {
  std::shared_ptr<const ListBody> items;
  int64_t index0 = 0;
  int64_t depth = 1;
};
struct Method {
  std::shared_ptr<const Value> object;
  std::string name;
};
struct Builtin {
  std::string name;
};
struct MacroRef {
  const Statement* macro;
};

// Containers nested deeper than this are refused, so that no recursion over a value can exhaust the stack.
inline constexpr int kMaxDepth = 150;
// And heavier ones too: [x, x] of [x, x] of ... would be small in memory and endless on paper.
inline constexpr int64_t kMaxWeight = 32 << 20;

class Value {
 public:
  using List = std::shared_ptr<const ListBody>;
  using Dict = std::shared_ptr<const DictBody>;
  using Text = std::shared_ptr<const std::string>;

  Value() : data(Undefined{}) {}
  Value(std::nullptr_t) : data(nullptr) {}
  Value(bool value) : data(value) {}
  Value(int64_t value) : data(value) {}
  Value(double value) : data(value) {}
  Value(std::string value) : data(std::make_shared<const std::string>(std::move(value))) {}
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(const char* value) : Value(std::string(value)) {}
  template <typename T>
  requires(std::is_same_v<T, Undefined> || std::is_same_v<T, Namespace*> || std::is_same_v<T, Method> ||
           std::is_same_v<T, Builtin> || std::is_same_v<T, MacroRef> || std::is_same_v<T, List> ||
           std::is_same_v<T, Dict> || std::is_same_v<T, std::shared_ptr<LoopBody>>) Value(T value)
      : data(std::move(value)) {}

  static Value list(std::vector<Value> items, bool tuple = false);
  static Value dict(std::vector<std::pair<Value, Value>> items);
  static Value from_json(const Json& json, int depth = 0);

  template <typename T>
  const T* as() const {
    return std::get_if<T>(&data);
  }
  bool is_undefined() const { return as<Undefined>() != nullptr; }
  bool is_none() const { return as<std::nullptr_t>() != nullptr; }
  const std::string* text() const { return as<Text>() ? std::get<Text>(data).get() : nullptr; }
  const ListBody* items() const { return as<List>() ? std::get<List>(data).get() : nullptr; }
  const DictBody* dict_body() const { return as<Dict>() ? std::get<Dict>(data).get() : nullptr; }
  // An int or a bool as an int.
  const int64_t* integer(int64_t& storage) const;
  // Any number as a double.
  bool number(double& out) const;
  bool is_number() const {
    return as<bool>() != nullptr || as<int64_t>() != nullptr || as<double>() != nullptr;
  }

  bool truth() const;
  int depth() const;
  int64_t weight() const;
  // The value under a key, or null. Numbers equal as in Python (1 == True == 1.0).
  const Value* find(const Value& key) const;

  std::variant<Undefined, std::nullptr_t, bool, int64_t, double, Text, List, Dict, Namespace*,
               std::shared_ptr<LoopBody>, Method, Builtin, MacroRef>
      data;
};

bool equal(const Value& a, const Value& b);
// Python's a < b; fails for types that have no order.
bool less(const Value& a, const Value& b);
std::string type_name(const Value& value);

// str(value); Undefined is empty.
std::string to_text(const Value& value);
// repr(value), as inside a printed list.
std::string to_repr(const Value& value);

struct JsonStyle {
  bool ensure_ascii = false, sort_keys = false;
  int64_t indent = -1;  // -1: one line
  std::string item_separator = ", ", key_separator = ": ";
};
// json.dumps(value).
std::string to_json(const Value& value, const JsonStyle& style);

// What iterating gives: items, keys, characters; nothing for Undefined. Fails for other values.
Value::List iterate(const Value& value);

// Code points, since Python counts those.
int64_t text_length(std::string_view text);
std::vector<std::string_view> characters(std::string_view text);

}  // namespace qwb::jinja
