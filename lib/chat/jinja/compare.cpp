// Python's comparisons.
#include <algorithm>
#include <cmath>

#include "lib/chat/jinja/value.h"

namespace qwb::jinja {
namespace {

bool is_nan(const Value& value) {
  const double* real = value.as<double>();
  return real != nullptr && std::isnan(*real);
}

bool equal_dicts(const Value& a, const Value& b) {
  const auto &p = a.dict_body()->items, &q = b.dict_body()->items;
  return p.size() == q.size() && std::ranges::all_of(p, [&](const auto& item) {
           const Value* other = b.find(item.first);
           return other != nullptr && equal_items(item.second, *other);
         });
}

bool equal_ranges(const Range& a, const Range& b) {
  const int64_t length = a.length();
  if (length != b.length() || length == 0) return length == b.length();
  return a.start == b.start && (length == 1 || a.step == b.step);
}

}  // namespace

int compare_numbers(const Value& a, const Value& b) {
  // A long double holds every int64_t and every double exactly.
  const auto exact = [](const Value& value) {
    int64_t whole = 0;
    double real = 0;
    if (value.integer(whole) != nullptr) return static_cast<long double>(whole);
    value.number(real);
    return static_cast<long double>(real);
  };
  const long double x = exact(a), y = exact(b);
  return x < y ? -1 : x > y ? 1 : 0;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return !is_nan(a) && !is_nan(b) && compare_numbers(a, b) == 0;
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() == *b.text();
  if (const auto* p = a.items(), *q = b.items(); p != nullptr && q != nullptr)
    return p->tuple == q->tuple && std::ranges::equal(p->items, q->items, equal_items);
  if (a.dict_body() != nullptr && b.dict_body() != nullptr) return equal_dicts(a, b);
  if (a.data.index() != b.data.index()) return false;
  if (a.is_none() || a.is_undefined()) return true;
  if (a.as<Namespace*>() != nullptr) return *a.as<Namespace*>() == *b.as<Namespace*>();
  if (const auto* range = a.as<Range>()) return equal_ranges(*range, *b.as<Range>());
  if (const auto* iterator = a.as<Value::Iterator>()) return *iterator == *b.as<Value::Iterator>();
  if (const auto* counter = a.as<Value::Counter>()) return *counter == *b.as<Value::Counter>();
  if (const auto* loop = a.as<Value::Loop>()) return *loop == *b.as<Value::Loop>();
  if (a.as<View>() != nullptr || a.is_function())
    throw Unsupported("comparing " + type_name(a) + " with " + type_name(b) + " is not supported");
  return false;
}

bool equal_items(const Value& a, const Value& b) {
  if (is_nan(a) && is_nan(b))
    throw Unsupported("comparing containers that hold NaN is not supported");
  return equal(a, b);
}

bool less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return !is_nan(a) && !is_nan(b) && compare_numbers(a, b) < 0;
  if (a.text() != nullptr && b.text() != nullptr)
    return *a.text() < *b.text();  // UTF-8 sorts as code points do
  if (const auto* p = a.items(), *q = b.items();
      p != nullptr && q != nullptr && p->tuple == q->tuple) {
    const auto [x, y] = std::ranges::mismatch(p->items, q->items, equal_items);
    if (x == p->items.end() || y == q->items.end()) return p->items.size() < q->items.size();
    return less(*x, *y);
  }
  if (a.as<View>() != nullptr && b.as<View>() != nullptr)
    throw Unsupported("comparing " + type_name(a) + " with " + type_name(b) + " is not supported");
  throw Failure("'<' is not defined between " + type_name(a) + " and " + type_name(b));
}

void require_hashable(const Value& value) {
  const auto* view = value.as<View>();
  if ((value.items() != nullptr && !value.items()->tuple) || value.dict_body() != nullptr ||
      (view != nullptr && view->of != View::Of::values)) {
    throw Failure(type_name(value) + " cannot be the key of a dict");
  }
  if (value.items() != nullptr) std::ranges::for_each(value.items()->items, require_hashable);
}

std::string type_name(const Value& value) {
  if (const auto* undefined = value.as<Undefined>())
    return undefined->name.empty() ? "undefined" : "undefined '" + undefined->name + "'";
  if (value.is_none()) return "None";
  if (value.as<bool>() != nullptr) return "bool";
  if (value.as<int64_t>() != nullptr) return "int";
  if (value.as<double>() != nullptr) return "float";
  if (value.is_markup()) return "Markup";
  if (value.text() != nullptr) return "string";
  if (value.items() != nullptr) return value.items()->tuple ? "tuple" : "list";
  if (value.dict_body() != nullptr) return "dict";
  if (value.as<Namespace*>() != nullptr) return "namespace";
  if (value.as<Value::Loop>() != nullptr) return "loop";
  if (const auto* iterator = value.as<Value::Iterator>()) return (*iterator)->type;
  if (value.as<Range>() != nullptr) return "range";
  if (const auto* counter = value.as<Value::Counter>())
    return (*counter)->cycler ? "cycler" : "joiner";
  if (const auto* view = value.as<View>())
    return view->of == View::Of::keys     ? "dict_keys"
           : view->of == View::Of::values ? "dict_values"
                                          : "dict_items";
  return "function";
}

}  // namespace qwb::jinja
