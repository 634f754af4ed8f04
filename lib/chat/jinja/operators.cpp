// Attributes, items, slices and comparisons of Python, on template values.
#include <algorithm>
#include <array>

#include "lib/chat/jinja/ast.h"
#include "lib/chat/jinja/builtins.h"
#include "lib/chat/jinja/unicode.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

using Names = std::vector<std::string_view>;

// The methods of Python's types. The sandbox hides methods that change a list or a dict, so that
// those are undefined.
const Names& method_names(const Value& object) {
  static const Names kText = {
      "capitalize",   "casefold",    "center",    "count",      "encode",       "endswith",
      "expandtabs",   "find",        "format",    "format_map", "index",        "isalnum",
      "isalpha",      "isascii",     "isdecimal", "isdigit",    "isidentifier", "islower",
      "isnumeric",    "isprintable", "isspace",   "istitle",    "isupper",      "join",
      "ljust",        "lower",       "lstrip",    "maketrans",  "partition",    "removeprefix",
      "removesuffix", "replace",     "rfind",     "rindex",     "rjust",        "rpartition",
      "rsplit",       "rstrip",      "split",     "splitlines", "startswith",   "strip",
      "swapcase",     "title",       "translate", "upper",      "zfill"};
  static const Names kMarkup = [] {
    Names names = kText;
    names.insert(names.end(), {"escape", "striptags", "unescape"});
    return names;
  }();
  static const Names kDict = {"copy", "fromkeys", "get", "items", "keys", "values"};
  static const Names kSequence = {"count", "index"}, kList = {"copy", "count", "index"};
  static const Names kInt = {"as_integer_ratio", "bit_count",  "bit_length",
                             "conjugate",        "from_bytes", "to_bytes"};
  static const Names kFloat = {"as_integer_ratio", "conjugate", "fromhex", "hex", "is_integer"};
  static const Names kView = {"isdisjoint"}, kCycler = {"next", "reset"},
                     kIterator = {"close", "send", "throw"};
  static const Names kLoop = {"cycle", "changed"}, kNone = {};
  if (object.is_markup()) return kMarkup;
  if (object.text() != nullptr) return kText;
  if (object.dict_body() != nullptr) return kDict;
  if (const auto* list = object.items()) return list->tuple ? kSequence : kList;
  if (object.as<Range>() != nullptr) return kSequence;
  if (object.as<int64_t>() != nullptr || object.as<bool>() != nullptr) return kInt;
  if (object.as<double>() != nullptr) return kFloat;
  if (object.as<View>() != nullptr) return kView;
  if (const auto* counter = object.as<Value::Counter>())
    return (*counter)->cycler ? kCycler : kNone;
  if (object.as<Value::Iterator>() != nullptr) return kIterator;
  return object.as<Value::Loop>() != nullptr ? kLoop : kNone;
}

bool is_hidden(const Value& object, std::string_view name) {
  static const Names kDict = {"clear", "pop", "popitem", "setdefault", "update"};
  static const Names kList = {"append", "clear",  "extend",  "insert",
                              "pop",    "remove", "reverse", "sort"};
  if (object.dict_body() != nullptr) return std::ranges::find(kDict, name) != kDict.end();
  const auto* list = object.items();
  return list != nullptr && !list->tuple && std::ranges::find(kList, name) != kList.end();
}

Value loop_attribute(LoopBody& loop, const std::string& name) {
  if (name == "index") return loop.index0 + 1;
  if (name == "index0") return loop.index0;
  if (name == "revindex") return loop.length() - loop.index0;
  if (name == "revindex0") return loop.length() - loop.index0 - 1;
  if (name == "first") return loop.index0 == 0;
  if (name == "last") return !loop.peek();
  if (name == "length") return loop.length();
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem" && loop.index0 > 0 && loop.before) return *loop.before;
  if (name == "nextitem" && loop.peek()) return *loop.after;
  return Undefined{"loop." + name};
}

// Attributes that are no methods; empty if there is none of that name.
std::optional<Value> data_attribute(const Value& object, const std::string& name) {
  if (const auto* list = object.items(); list != nullptr && list->group) {
    if (name == "grouper") return list->items[0];
    if (name == "list") return list->items[1];
  }
  if (const auto* range = object.as<Range>()) {
    if (name == "start") return range->start;
    if (name == "stop") return range->stop;
    if (name == "step") return range->step;
  }
  int64_t whole = 0;
  if (object.integer(whole) != nullptr) {
    if (name == "real" || name == "numerator") return whole;
    if (name == "imag") return int64_t{0};
    if (name == "denominator") return int64_t{1};
  }
  if (const double* real = object.as<double>()) {
    if (name == "real") return *real;
    if (name == "imag") return 0.0;
  }
  if (const auto* counter = object.as<Value::Counter>()) {
    const CounterBody& body = **counter;
    if (body.cycler && name == "current") return body.items[body.at];
    if (body.cycler && name == "items") return Value::list(body.items, true);
    if (body.cycler && name == "pos") return static_cast<int64_t>(body.at);
    if (!body.cycler && name == "sep") return body.items[0];
    if (!body.cycler && name == "used") return body.at > 0;
  }
  return std::nullopt;
}

Value macro_attribute(const Statement& macro, const std::string& name) {
  if (name == "name") return macro.text.empty() ? Value(nullptr) : Value(macro.text);
  if (name == "caller") return macro.takes_caller;
  if (name == "catch_kwargs") return macro.takes_kwargs;
  if (name == "catch_varargs") return macro.takes_varargs;
  if (name == "explicit_caller")
    return std::ranges::find(macro.parameters, "caller") != macro.parameters.end();
  if (name != "arguments") return Undefined{name};
  std::vector<Value> names;
  for (const std::string& parameter : macro.parameters) names.emplace_back(parameter);
  return Value::list(std::move(names), true);
}

// getattr(object, name) as far as the sandbox shows it; empty where Python raises AttributeError.
std::optional<Value> python_attribute(const Value& object, const std::string& name) {
  if (const auto* space = object.as<Namespace*>()) {
    for (const auto& [key, value] : (*space)->items) {
      if (key.text() != nullptr && *key.text() == name) return value;
    }
    return std::nullopt;
  }
  if (name.starts_with("__") && name.ends_with("__")) {
    if (object.find(name) != nullptr)
      throw Unsupported(
          "the key " + name +
          " of a dict, which Python's dicts may have as an attribute, is not supported");
    return Undefined{name};
  }
  if (is_hidden(object, name)) return Undefined{name};
  if (auto value = data_attribute(object, name)) return value;
  const Names& names = method_names(object);
  if (std::ranges::find(names, name) != names.end())
    return Method{std::make_shared<const Value>(object), name};
  if (const auto* loop = object.as<Value::Loop>()) {
    if (!name.starts_with('_')) return loop_attribute(**loop, name);
    return Undefined{name};
  }
  if (const auto* macro = object.as<MacroRef>()) return macro_attribute(*macro->macro, name);
  const auto* builtin = object.as<Builtin>();
  if (builtin != nullptr && builtin->name == "dict" && name == "fromkeys")
    return Builtin{"dict.fromkeys"};
  const bool class_of_python = builtin != nullptr && builtin->name != "range" &&
                               builtin->name != "raise_exception" &&
                               builtin->name != "strftime_now" && builtin->name != "lipsum";
  if ((class_of_python && !name.starts_with('_')) ||
      (object.as<View>() != nullptr && name == "mapping") ||
      (object.as<Value::Iterator>() != nullptr && name.starts_with("gi_"))) {
    throw Unsupported("the attribute '" + name + "' of a " + type_name(object) +
                      " is not supported");
  }
  return std::nullopt;
}

// object[key] of Python; empty where it raises TypeError or LookupError.
std::optional<Value> python_item(const Value& object, const Value& key, Budget& budget) {
  if (const auto* dict = object.dict_body()) {
    budget.charge(static_cast<int64_t>(dict->items.size()) + key.weight());
    if ((key.items() != nullptr && !key.items()->tuple) || key.dict_body() != nullptr)
      return std::nullopt;
    const Value* found = object.find(key);
    return found != nullptr ? std::optional(*found) : std::nullopt;
  }
  int64_t index = 0;
  const auto size =
      object.items() || object.text() || object.as<Range>() ? object.length() : std::nullopt;
  if (!size || key.integer(index) == nullptr) return std::nullopt;
  if (index < 0) index += *size;
  if (index < 0 || index >= *size) return std::nullopt;
  if (const auto* list = object.items()) return list->items[index];
  if (const auto* range = object.as<Range>()) return range->start + index * range->step;
  budget.charge(object.weight());
  return Value::text_like(std::string(part_of(*object.text(), index, index + 1)),
                          object.is_markup());
}

}  // namespace

Value get_attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) {
    if (name.starts_with("__") && name.ends_with("__")) return Undefined{name};
    throw Failure(type_name(object) + " has no attribute '" + name + "'");
  }
  // Every value of Python has __class__ and more such; the sandbox of transformers fails on them.
  if (name.starts_with("__") && name.ends_with("__"))
    throw Failure("access to attribute '" + name + "' of " + type_name(object) + " is unsafe");
  if (auto value = python_attribute(object, name)) return *value;
  const Value* found = object.find(name);
  return found != nullptr ? *found : Value(Undefined{name});
}

Value get_attribute_only(const Value& object, const std::string& name) {
  if (object.is_undefined()) throw Failure(type_name(object) + " has no attribute '" + name + "'");
  return python_attribute(object, name).value_or(Undefined{name});
}

Value get_item(const Value& object, const Value& key, Budget& budget) {
  if (object.is_undefined()) throw Failure(type_name(object) + " has no items");
  if (auto value = python_item(object, key, budget)) return *value;
  if (key.text() != nullptr) {
    if (auto value = python_attribute(object, *key.text())) return *value;
    return Undefined{*key.text()};
  }
  return Undefined{"item"};
}

std::vector<Value> attribute_parts(const Value* attribute) {
  if (attribute == nullptr || attribute->is_none()) return {};
  if (attribute->text() == nullptr) return {*attribute};
  std::vector<Value> parts;
  std::string_view rest = *attribute->text();
  for (bool more = true; more;) {
    const size_t dot = rest.find('.');
    more = dot != std::string_view::npos;
    const std::string_view name = rest.substr(0, dot);
    if (more) rest.remove_prefix(dot + 1);
    bool digits = !name.empty();
    for (const auto c : characters(name))
      digits = digits && is_digit(tokenizer::char_at(c, 0).point);
    if (!digits) {
      parts.emplace_back(name);
    } else if (const auto number = parse_integer(name, 10)) {
      parts.emplace_back(*number);
    } else {
      throw Failure("the attribute " + std::string(name) + " is no integer");
    }
  }
  return parts;
}

Value get_path(const Value& object, const std::vector<Value>& parts, const Value* fallback,
               Budget& budget) {
  Value value = object;
  for (const Value& part : parts) {
    value = get_item(value, part, budget);
    if (fallback != nullptr && value.is_undefined()) value = *fallback;
  }
  return value;
}

Value get_slice(const Value& object, const Value* from, const Value* to, const Value* by,
                Budget& budget) {
  const auto number = [](const Value* part) -> std::optional<int64_t> {
    int64_t value = 0;
    if (part == nullptr || part->is_none()) return std::nullopt;
    if (part->integer(value) == nullptr)
      throw Failure("a slice needs integers, not " + type_name(*part));
    return value;
  };
  if (!object.text() && !object.items() && !object.as<Range>())
    throw Failure(type_name(object) + " has no slices");
  const int64_t step = number(by).value_or(1), size = *object.length();
  if (step == 0) throw Failure("a slice step of 0");
  budget.charge(object.weight());
  const auto bound = [&](const Value* part, int64_t fallback) {
    const auto given = number(part);
    if (!given) return fallback;
    const int64_t at = *given < 0 ? std::max(*given, -size - 1) + size : std::min(*given, size);
    return step > 0 ? std::max<int64_t>(at, 0) : std::clamp<int64_t>(at, -1, size - 1);
  };
  const int64_t begin = bound(from, step > 0 ? 0 : size - 1), end = bound(to, step > 0 ? size : -1);
  if (const auto* range = object.as<Range>()) {
    return Range{range->start + begin * range->step, range->start + end * range->step,
                 range->step * step};
  }
  std::vector<Value> items;
  std::string text;
  const auto all =
      object.text() != nullptr ? characters(*object.text()) : std::vector<std::string_view>();
  for (int64_t at = begin; step > 0 ? at < end : at > end;) {
    if (object.text() != nullptr) {
      text += all[at];
    } else {
      items.push_back(object.items()->items[at]);
    }
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  if (object.text() != nullptr) return Value::text_like(std::move(text), object.is_markup());
  return Value::list(std::move(items), object.items()->tuple);
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  budget.charge(container.weight() + item.weight());
  if (const auto* text = container.text()) {
    if (item.text() == nullptr)
      throw Failure("'in' needs a string on the left of a string, not " + type_name(item));
    return text->find(*item.text()) != std::string::npos;
  }
  const auto* view = container.as<View>();
  if (container.dict_body() != nullptr || (view != nullptr && view->of == View::Of::keys))
    require_hashable(item);
  const auto next = iterate_once(container);
  for (Value other; next(other);) {
    budget.charge(1);
    if (equal_items(item, other)) return true;
  }
  return false;
}

bool compare(std::string_view symbol, const Value& a, const Value& b, Budget& budget) {
  const int64_t cost = std::min(a.weight(), b.weight());
  budget.charge(a.dict_body() != nullptr || a.items() != nullptr
                    ? std::min(cost * cost, kMaxWeight * 64)
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

}  // namespace qwb::jinja
