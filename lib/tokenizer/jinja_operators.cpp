// Attributes, comparisons and arithmetic of Python, on template values.
#include <algorithm>
#include <cmath>

#include "lib/tokenizer/jinja_builtins.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

Value loop_attribute(const LoopBody& loop, const std::string& name) {
  const auto length = static_cast<int64_t>(loop.items->items.size());
  const auto item = [&](int64_t index) {
    return index >= 0 && index < length ? loop.items->items[static_cast<size_t>(index)]
                                        : Value(Undefined{"loop." + name});
  };
  if (name == "index") return loop.index0 + 1;
  if (name == "index0") return loop.index0;
  if (name == "revindex") return length - loop.index0;
  if (name == "revindex0") return length - loop.index0 - 1;
  if (name == "first") return loop.index0 == 0;
  if (name == "last") return loop.index0 + 1 == length;
  if (name == "length") return length;
  if (name == "depth") return loop.depth;
  if (name == "depth0") return loop.depth - 1;
  if (name == "previtem") return item(loop.index0 - 1);
  if (name == "nextitem") return item(loop.index0 + 1);
  return Undefined{"loop." + name};
}

}  // namespace

Value get_attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) throw Failure(type_name(object) + " has no attribute '" + name + "'");
  if (const auto* space = object.as<Namespace*>()) {
    for (const auto& [key, value] : (*space)->items) {
      if (key == name) return value;
    }
    return Undefined{name};
  }
  if (const auto* loop = object.as<std::shared_ptr<LoopBody>>()) return loop_attribute(**loop, name);
  if (has_method(object, name)) return Method{std::make_shared<const Value>(object), name};
  const Value* found = object.find(name);
  return found != nullptr ? *found : Value(Undefined{name});
}

Value get_item(const Value& object, const Value& key, Budget& budget) {
  if (object.is_undefined()) throw Failure(type_name(object) + " has no items");
  int64_t index = 0;
  if (const auto* dict = object.dict_body()) {
    budget.charge(static_cast<int64_t>(dict->items.size()) + key.weight());
    const Value* found = object.find(key);
    return found != nullptr ? *found : Value(Undefined{to_text(key)});
  }
  if (key.text() != nullptr) return get_attribute(object, *key.text());
  if (key.integer(index) == nullptr) return Undefined{"item"};
  const auto* list = object.items();
  if (list == nullptr && object.text() == nullptr) return Undefined{std::to_string(index)};
  if (list == nullptr) budget.charge(object.weight());
  const auto length =
      list != nullptr ? static_cast<int64_t>(list->items.size()) : text_length(*object.text());
  if (index < 0) index += length;
  if (index < 0 || index >= length) return Undefined{std::to_string(index)};
  if (list != nullptr) return list->items[static_cast<size_t>(index)];
  return characters(*object.text())[static_cast<size_t>(index)];
}

Value get_path(const Value& object, const Value& path, Budget& budget) {
  if (path.text() == nullptr) return get_item(object, path, budget);
  Value value = object;
  std::string_view rest = *path.text();
  for (bool more = true; more;) {
    const size_t dot = rest.find('.');
    more = dot != std::string_view::npos;
    const std::string name(rest.substr(0, dot));
    if (more) rest.remove_prefix(dot + 1);
    const bool digits = !name.empty() && name.size() < 10 &&
                        std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
    value = digits ? get_item(value, static_cast<int64_t>(std::stoll(name)), budget)
                   : get_item(value, name, budget);
  }
  return value;
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  budget.charge(container.weight() + item.weight());
  if (const auto* text = container.text()) {
    if (item.text() == nullptr)
      throw Failure("'in' needs a string on the left of a string, not " + type_name(item));
    return text->find(*item.text()) != std::string::npos;
  }
  const auto list = iterate(container);
  return std::ranges::any_of(list->items, [&](const Value& other) { return equal(item, other); });
}

bool compare(std::string_view symbol, const Value& a, const Value& b, Budget& budget) {
  const int64_t cost = std::min(a.weight(), b.weight());
  budget.charge(a.dict_body() != nullptr || a.items() != nullptr ? std::min(cost * cost, kMaxWeight * 64)
                                                                 : cost);
  if (symbol == "==") return equal(a, b);
  if (symbol == "!=") return !equal(a, b);
  if (symbol == "<") return less(a, b);
  if (symbol == ">") return less(b, a);
  if (symbol == "<=") return less(a, b) || equal(a, b);
  if (symbol == ">=") return less(b, a) || equal(a, b);
  if (symbol == "in") return contains(b, a, budget);
  return !contains(b, a, budget);  // not in
}

namespace {

[[noreturn]] void cannot(std::string_view symbol, const Value& a, const Value& b) {
  throw Failure("cannot compute " + type_name(a) + " " + std::string(symbol) + " " + type_name(b));
}

int64_t whole_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) throw Failure("an integer has more than 63 bits");
  }
  return result;
}

Value whole_arithmetic(char symbol, bool doubled, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (symbol == '+') overflow = __builtin_add_overflow(a, b, &result);
  if (symbol == '-') overflow = __builtin_sub_overflow(a, b, &result);
  if (symbol == '*' && !doubled) overflow = __builtin_mul_overflow(a, b, &result);
  if (symbol == '*' && doubled) return whole_power(a, b);
  if (symbol == '/' || symbol == '%') {
    if (b == 0) throw Failure("division by zero");
    if (b == -1) return symbol == '%' ? Value(int64_t{0}) : whole_arithmetic('-', false, 0, a);
    const int64_t rest = a % b;
    const bool adjust = rest != 0 && (rest < 0) != (b < 0);  // Python rounds the quotient down
    result = symbol == '%' ? rest + (adjust ? b : 0) : a / b - (adjust ? 1 : 0);
  }
  if (overflow) throw Failure("an integer has more than 63 bits");
  return result;
}

Value real_arithmetic(std::string_view symbol, double a, double b) {
  if (symbol == "+") return a + b;
  if (symbol == "-") return a - b;
  if (symbol == "*") return a * b;
  if (symbol == "**") return std::pow(a, b);
  if (b == 0) throw Failure("division by zero");
  if (symbol == "/") return a / b;
  if (symbol == "//") return std::floor(a / b);
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

Value repeat(const Value& value, int64_t count, Budget& budget) {
  count = std::max<int64_t>(count, 0);
  if (count > kMaxWeight) throw Failure("a repetition is too large");
  budget.charge(value.weight() * count);
  if (const auto* text = value.text()) {
    std::string out;
    out.reserve(text->size() * static_cast<size_t>(count));
    for (; count > 0; --count) out += *text;
    return out;
  }
  std::vector<Value> items;
  const auto* list = value.items();
  for (; count > 0; --count) items.insert(items.end(), list->items.begin(), list->items.end());
  return Value::list(std::move(items), list->tuple);
}

}  // namespace

Value arithmetic(std::string_view symbol, const Value& a, const Value& b, Budget& budget) {
  budget.charge(symbol == "*" ? 1 : a.weight() + b.weight());
  if (symbol == "~") return to_text(a) + to_text(b);
  int64_t i = 0, j = 0;
  double x = 0, y = 0;
  if (a.integer(i) != nullptr && b.integer(j) != nullptr && symbol != "/" && !(symbol == "**" && j < 0)) {
    return whole_arithmetic(symbol[0], symbol == "**", i, j);
  }
  if (a.number(x) && b.number(y)) return real_arithmetic(symbol, x, y);
  if (symbol == "+" && a.text() != nullptr && b.text() != nullptr) return *a.text() + *b.text();
  if (symbol == "+" && a.items() != nullptr && b.items() != nullptr && a.items()->tuple == b.items()->tuple) {
    auto items = a.items()->items;
    items.insert(items.end(), b.items()->items.begin(), b.items()->items.end());
    return Value::list(std::move(items), a.items()->tuple);
  }
  const auto repeats = [](const Value& value) { return value.text() != nullptr || value.items() != nullptr; };
  if (symbol == "*" && repeats(a) && b.integer(j) != nullptr) return repeat(a, j, budget);
  if (symbol == "*" && repeats(b) && a.integer(i) != nullptr) return repeat(b, i, budget);
  cannot(symbol, a, b);
}

}  // namespace qwb::jinja
