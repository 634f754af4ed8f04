// Values of chat templates: Python's, as far as Jinja templates see them. Lists and dicts never
// change once made (transformers renders in an immutable sandbox), so they are shared freely and
// cannot form cycles. An expression that needs any other value (an integer beyond 64 bits, bytes, a
// complex number, a set) is refused.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "lib/base/json.h"

namespace qwb::jinja {

// An error while a template was read or rendered; becomes a qwb::Error that names the line.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// raise_exception() of the template: the messages are not what it accepts.
struct Refusal : Failure {
  using Failure::Failure;
};
// A feature of Jinja that this engine does not have: refused, never rendered differently.
struct Unsupported : Failure {
  using Failure::Failure;
};

class Value;
struct Statement;
struct Activation;

struct Undefined {
  std::string name;  // for the message
};
struct Markup {  // of |safe and |escape: text that escapes what is joined to it
  std::shared_ptr<const std::string> body;
};
struct ListBody {
  std::vector<Value> items;
  bool tuple = false;
  bool group = false;  // a tuple of groupby, with the attributes grouper and list
  int depth = 1;
  int64_t weight = 1;  // characters and items inside, shared parts counted as often as they appear
};
struct DictBody {
  std::vector<std::pair<Value, Value>> items;  // in order of insertion
  int depth = 1;
  int64_t weight = 1;
};
struct View {  // dict.keys(), dict.values(), dict.items()
  enum class Of { keys, values, items };
  std::shared_ptr<const DictBody> dict;
  Of of = Of::keys;
};
struct Range {
  int64_t start = 0, stop = 0, step = 1;
  int64_t length() const;
};
// Iterables that Python consumes once: generators of map, select and others, reversed().
struct IteratorBody {
  const char* type = "generator";
  std::function<bool(Value&)> next;  // false at the end
  int depth = 1;
};
struct Namespace {
  std::vector<std::pair<Value, Value>> items;
};
// joiner() and cycler().
struct CounterBody {
  bool cycler = false;
  std::vector<Value> items;
  size_t at = 0;  // of a joiner: 1 once it was called
};
struct Method {
  std::shared_ptr<const Value> object;
  std::string name;
};
struct Builtin {
  std::string name;
};
struct MacroRef {
  const Statement* macro = nullptr;
  Activation* outer = nullptr;  // where the macro was defined: it sees the names there
};
struct LoopBody;

// Containers nested deeper than this are refused, so that no recursion over a value can exhaust the
// stack.
inline constexpr int kMaxDepth = 150;
// Heavier ones are refused too: [x, x] of [x, x] of ... would be small in memory and endless as
// text.
inline constexpr int64_t kMaxWeight = 32 << 20;

class Value {
 public:
  using List = std::shared_ptr<const ListBody>;
  using Dict = std::shared_ptr<const DictBody>;
  using Text = std::shared_ptr<const std::string>;
  using Iterator = std::shared_ptr<IteratorBody>;
  using Loop = std::shared_ptr<LoopBody>;
  using Counter = std::shared_ptr<CounterBody>;
  using Data =
      std::variant<Undefined, std::nullptr_t, bool, int64_t, double, Text, Markup, List, Dict, View,
                   Range, Iterator, Namespace*, Counter, Loop, Method, Builtin, MacroRef>;

  Value() : data(Undefined{}) {}
  Value(std::nullptr_t) : data(nullptr) {}
  Value(bool value) : data(value) {}
  Value(int64_t value) : data(value) {}
  Value(double value) : data(value) {}
  Value(std::string value) : data(std::make_shared<const std::string>(std::move(value))) {}
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(const char* value) : Value(std::string(value)) {}
  template <typename T>
  requires(std::is_same_v<T, Undefined> || std::is_same_v<T, Namespace*> ||
           std::is_same_v<T, Method> || std::is_same_v<T, Builtin> || std::is_same_v<T, MacroRef> ||
           std::is_same_v<T, List> || std::is_same_v<T, Dict> || std::is_same_v<T, Loop> ||
           std::is_same_v<T, Iterator> || std::is_same_v<T, Counter> || std::is_same_v<T, View> ||
           std::is_same_v<T, Range>) Value(T value)
      : data(std::move(value)) {}

  static Value list(std::vector<Value> items, bool tuple = false);
  static Value dict(std::vector<std::pair<Value, Value>> items);
  static Value markup(std::string text);
  // A text that is a Markup if `like` is one, as the methods of Markup give back.
  static Value text_like(std::string text, bool markup) {
    return markup ? Value::markup(std::move(text)) : Value(std::move(text));
  }
  // `depth`: of what it draws from. Throws if iterators are stacked too deeply.
  static Value iterator(int depth, std::function<bool(Value&)> next,
                        const char* type = "generator");
  static Value from_json(const Json& json, int depth = 0);

  template <typename T>
  const T* as() const {
    return std::get_if<T>(&data);
  }
  bool is_undefined() const { return as<Undefined>() != nullptr; }
  bool is_none() const { return as<std::nullptr_t>() != nullptr; }
  bool is_markup() const { return as<Markup>() != nullptr; }
  // A string's or Markup's.
  const std::string* text() const;
  const ListBody* items() const { return as<List>() ? std::get<List>(data).get() : nullptr; }
  const DictBody* dict_body() const { return as<Dict>() ? std::get<Dict>(data).get() : nullptr; }
  // An int or a bool as an int.
  const int64_t* integer(int64_t& storage) const;
  // Any number as a double.
  bool number(double& out) const;
  bool is_number() const {
    return as<bool>() != nullptr || as<int64_t>() != nullptr || as<double>() != nullptr;
  }
  // Methods, macros, functions and the like, which have an identity and nothing to compare.
  bool is_function() const { return as<Method>() || as<Builtin>() || as<MacroRef>(); }

  bool truth() const;
  int depth() const;
  int64_t weight() const;
  // The value under a key, or null. Numbers equal as in Python (1 == True == 1.0).
  const Value* find(const Value& key) const;
  // len(value); empty if it has none.
  std::optional<int64_t> length() const;

  Data data;
};

// The state of one `for`, which `loop` exposes. Items are drawn one by one, as Python does.
struct LoopBody {
  Value source;
  std::function<bool(Value&)> next;
  std::optional<Value> before, current, after, changed;
  std::optional<int64_t> known_length;
  int64_t index0 = -1;
  int64_t depth0 = 0;
  const Statement* recursive = nullptr;  // may be called again with other items
  Activation* outer = nullptr;

  bool advance();
  bool peek();  // fills `after`; false at the end
  int64_t length();
};

// Python's a == b.
bool equal(const Value& a, const Value& b);
// The same between items of containers, where identity comes first.
bool equal_items(const Value& a, const Value& b);
// Python's a < b; fails for types that have no order.
bool less(const Value& a, const Value& b);
// -1, 0, 1; exact for an int beside a float. Neither is NaN.
int compare_numbers(const Value& a, const Value& b);
std::string type_name(const Value& value);
// Fails for what cannot be the key of a dict.
void require_hashable(const Value& value);

// str(value); Undefined is empty.
std::string to_text(const Value& value);
// repr(value), as inside a printed list.
std::string to_repr(const Value& value);

struct JsonStyle {
  bool ensure_ascii = false, sort_keys = false;
  std::optional<std::string> indent;  // absent: one line
  std::string item_separator = ", ", key_separator = ": ";
};
// json.dumps(value).
std::string to_json(const Value& value, const JsonStyle& style);

// iter(value): items, keys, characters; nothing for Undefined. Fails for other values.
std::function<bool(Value&)> iterate_once(const Value& value);
// list(value).
Value::List iterate(const Value& value);
bool is_iterable(const Value& value);

// Code points, since Python counts those.
int64_t text_length(std::string_view text);
std::vector<std::string_view> characters(std::string_view text);

}  // namespace qwb::jinja
