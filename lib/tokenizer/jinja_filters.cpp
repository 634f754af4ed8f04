// The filters.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>

#include "lib/tokenizer/jinja_builtins.h"

namespace qwb::jinja {

const Value* Arguments::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

Value Arguments::get(size_t index, std::string_view name, const Value& fallback) const {
  const Value* found = find(index, name);
  return found != nullptr ? *found : fallback;
}

bool Arguments::flag(size_t index, std::string_view name, bool fallback) const {
  const Value* found = find(index, name);
  return found != nullptr ? found->truth() : fallback;
}

int64_t Arguments::integer(size_t index, std::string_view name, int64_t fallback) const {
  const Value* found = find(index, name);
  int64_t value = fallback;
  if (found != nullptr && !found->is_none() && found->integer(value) == nullptr)
    throw Failure("'" + std::string(name) + "' must be an integer");
  return value;
}

namespace {

using Items = std::vector<Value>;

const std::string kEmpty;

const std::string& text_argument(const Arguments& a, size_t index, std::string_view name) {
  const Value* found = a.find(index, name);
  if (found == nullptr) return kEmpty;
  if (found->text() == nullptr) throw Failure("'" + std::string(name) + "' must be a string");
  return *found->text();
}

Value tojson(const Value& value, const Arguments& a, Budget& budget) {
  JsonStyle style;
  style.ensure_ascii = a.flag(0, "ensure_ascii", false);
  const Value indent = a.get(1, "indent", nullptr);
  style.indent = indent.is_none() ? -1 : a.integer(1, "indent", 0);
  if (style.indent > 100) throw Failure("an indent of more than 100");
  if (style.indent >= 0) style.item_separator = ",";
  const Value separators = a.get(2, "separators", nullptr);
  if (const auto* pair = separators.items(); pair != nullptr && pair->items.size() == 2) {
    style.item_separator = to_text(pair->items[0]);
    style.key_separator = to_text(pair->items[1]);
  }
  style.sort_keys = a.flag(3, "sort_keys", false);
  budget.charge(value.weight() *
                (2 + std::max<int64_t>(style.indent, 0) * value.depth() +
                 static_cast<int64_t>(style.item_separator.size() + style.key_separator.size())));
  return to_json(value, style);
}

Value length(const Value& value) {
  if (value.text() != nullptr) return text_length(*value.text());
  if (value.items() != nullptr) return static_cast<int64_t>(value.items()->items.size());
  if (value.dict_body() != nullptr) return static_cast<int64_t>(value.dict_body()->items.size());
  if (value.is_undefined()) return int64_t{0};
  throw Failure(type_name(value) + " has no length");
}

Value join(const Value& value, const Arguments& a, Budget& budget) {
  const std::string separator = to_text(a.get(0, "d", ""));
  const Value* attribute = a.find(1, "attribute");
  std::string out;
  bool first = true;
  const auto list = iterate(value);  // named: it must outlive the loop
  for (const Value& item : list->items) {
    const std::string text = to_text(attribute != nullptr ? get_path(item, *attribute, budget) : item);
    budget.charge(static_cast<int64_t>(text.size() + separator.size()) + 1);
    if (!first) out += separator;
    first = false;
    out += text;
  }
  return out;
}

Value indent(const Value& value, const Arguments& a, Budget& budget) {
  const Value width = a.get(0, "width", int64_t{4});
  int64_t count = 0;
  std::string margin;
  if (width.text() != nullptr) {
    margin = *width.text();
  } else if (width.integer(count) != nullptr && count <= 1000) {
    margin.assign(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
  } else {
    throw Failure("indent() needs a width of at most 1000");
  }
  const bool blank = a.flag(2, "blank", false);
  const std::string text = to_text(value) + "\n";
  std::string out = a.flag(1, "first", false) ? margin : "";
  bool first = true;
  for (const auto line : split_lines(text)) {
    budget.charge(static_cast<int64_t>(line.size() + margin.size()) + 1);
    if (!first) out += '\n';
    if (!first && (blank || !line.empty())) out += margin;
    out += line;
    first = false;
  }
  return out;
}

// select, reject, selectattr, rejectattr.
Value select(const Value& value, const Arguments& a, bool keep, bool by_attribute, Budget& budget) {
  Arguments rest;
  size_t used = 0;
  Value attribute;
  if (by_attribute) {
    if (a.positional.empty()) throw Failure("selectattr needs the name of an attribute");
    attribute = a.positional[used++];
  }
  std::string test;
  if (used < a.positional.size()) test = to_text(a.positional[used++]);
  rest.positional.assign(a.positional.begin() + static_cast<int64_t>(used), a.positional.end());
  Items out;
  const auto list = iterate(value);  // named: it must outlive the loop
  for (const Value& item : list->items) {
    budget.charge(4);
    const Value subject = by_attribute ? get_path(item, attribute, budget) : item;
    if ((test.empty() ? subject.truth() : apply_test(test, subject, rest, budget)) == keep)
      out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value map(const Value& value, const Arguments& a, Budget& budget) {
  Items out;
  Arguments rest = a;
  const Value* attribute = nullptr;
  const Value* fallback = nullptr;
  for (const auto& [key, given] : a.named) {
    if (key == "attribute") attribute = &given;
    if (key == "default") fallback = &given;
  }
  if (attribute == nullptr) {
    if (a.positional.empty()) throw Failure("map needs a filter or an attribute");
    rest.positional.erase(rest.positional.begin());
  }
  const auto list = iterate(value);  // named: it must outlive the loop
  for (const Value& item : list->items) {
    budget.charge(4);
    if (attribute == nullptr) {
      out.push_back(apply_filter(to_text(a.positional[0]), item, rest, budget));
      continue;
    }
    const Value found = get_path(item, *attribute, budget);
    out.push_back(found.is_undefined() && fallback != nullptr ? *fallback : found);
  }
  return Value::list(std::move(out));
}

// What sort, unique, min and max compare: an attribute, in lower case unless case matters.
std::function<Value(const Value&)> sort_key(const Value* attribute, bool case_sensitive, Budget& budget) {
  return [=, &budget](const Value& item) {
    Value key = attribute != nullptr && !attribute->is_none() ? get_path(item, *attribute, budget) : item;
    if (!case_sensitive && key.text() != nullptr) return Value(lower_text(*key.text()));
    return key;
  };
}

Value sorted(const Items& items, const std::function<Value(const Value&)>& key, bool reverse,
             Budget& budget) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) keyed.emplace_back(key(item), item);
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    budget.charge(4 + std::min(a.first.weight(), b.first.weight()));
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  Items out;
  for (auto& item : keyed) out.push_back(std::move(item.second));
  return Value::list(std::move(out));
}

Value unique(const Value& value, const Arguments& a, Budget& budget) {
  const auto key = sort_key(a.find(1, "attribute"), a.flag(0, "case_sensitive", false), budget);
  Items seen, out;
  const auto list = iterate(value);  // named: it must outlive the loop
  for (const Value& item : list->items) {
    const Value k = key(item);
    budget.charge(static_cast<int64_t>(seen.size()) * 4 + k.weight());
    if (std::ranges::any_of(seen, [&](const Value& other) { return equal(k, other); })) continue;
    seen.push_back(k);
    out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value dictsort(const Value& value, const Arguments& a, Budget& budget) {
  if (value.dict_body() == nullptr) throw Failure("dictsort needs a dict, not " + type_name(value));
  Items pairs;
  for (const auto& [key, item] : value.dict_body()->items) pairs.push_back(Value::list({key, item}, true));
  const Value position = to_text(a.get(1, "by", "key")) == "value" ? int64_t{1} : int64_t{0};
  return sorted(pairs, sort_key(&position, a.flag(0, "case_sensitive", false), budget),
                a.flag(2, "reverse", false), budget);
}

Value to_integer(const Value& value, const Arguments& a) {
  double number = 0;
  int64_t whole = 0;
  if (value.integer(whole) != nullptr) return whole;
  if (value.number(number))
    return std::abs(number) < 9e18 ? Value(static_cast<int64_t>(number)) : a.get(0, "default", int64_t{0});
  if (value.text() != nullptr) {
    const std::string text = strip_text(*value.text(), nullptr, true, true);
    const char *begin = text.data(), *end = begin + text.size();
    if (begin != end && *begin == '+') ++begin;
    if (const auto r = std::from_chars(begin, end, whole); r.ec == std::errc() && r.ptr == end) return whole;
    if (const auto r = std::from_chars(begin, end, number);
        r.ec == std::errc() && r.ptr == end && std::abs(number) < 9e18) {
      return static_cast<int64_t>(number);
    }
  }
  return a.get(0, "default", int64_t{0});
}

Value to_real(const Value& value, const Arguments& a) {
  double number = 0;
  if (value.number(number)) return number;
  if (value.text() != nullptr) {
    const std::string text = strip_text(*value.text(), nullptr, true, true);
    const auto r = std::from_chars(text.data(), text.data() + text.size(), number);
    if (r.ec == std::errc() && r.ptr == text.data() + text.size() && !text.empty()) return number;
  }
  return a.get(0, "default", 0.0);
}

Value round_number(const Value& value, const Arguments& a) {
  double number = 0;
  if (!value.number(number)) throw Failure("round needs a number");
  const std::string method = to_text(a.get(1, "method", "common"));
  const double scale =
      std::pow(10.0, static_cast<double>(std::clamp<int64_t>(a.integer(0, "precision", 0), -300, 300)));
  const double scaled = number * scale;
  return (method == "ceil"    ? std::ceil(scaled)
          : method == "floor" ? std::floor(scaled)
                              : std::nearbyint(scaled)) /
         scale;
}

Value first_or_last(const Value& value, bool first) {
  const auto list = iterate(value);
  if (list->items.empty()) return Undefined{first ? "first" : "last"};
  return first ? list->items.front() : list->items.back();
}

Value reverse(const Value& value) {
  Items items = iterate(value)->items;
  std::ranges::reverse(items);
  if (value.text() == nullptr) return Value::list(std::move(items));
  std::string out;
  for (const Value& c : items) out += *c.text();
  return out;
}

Value extreme(const Value& value, const Arguments& a, bool largest, Budget& budget) {
  const Value order =
      sorted(iterate(value)->items,
             sort_key(a.find(1, "attribute"), a.flag(0, "case_sensitive", false), budget), largest, budget);
  return first_or_last(order, true);
}

Value sum(const Value& value, const Arguments& a, Budget& budget) {
  Value total = a.get(1, "start", int64_t{0});
  const Value* attribute = a.find(0, "attribute");
  const auto list = iterate(value);  // named: it must outlive the loop
  for (const Value& item : list->items) {
    total = arithmetic(
        "+", total, attribute != nullptr && !attribute->is_none() ? get_path(item, *attribute, budget) : item,
        budget);
  }
  return total;
}

Value absolute(const Value& value) {
  int64_t whole = 0;
  double number = 0;
  if (value.integer(whole) != nullptr && whole != INT64_MIN) return std::abs(whole);
  if (!value.number(number)) throw Failure("abs needs a number");
  return std::abs(number);
}

Value escape(const Value& value) {
  std::string out;
  for (const char c : to_text(value)) {
    out += c == '&'    ? "&amp;"
           : c == '<'  ? "&lt;"
           : c == '>'  ? "&gt;"
           : c == '"'  ? "&#34;"
           : c == '\'' ? "&#39;"
                       : std::string(1, c);
  }
  return out;
}

Value pairs_of(const Value& value, Budget& budget) {
  if (value.is_undefined()) return Value::list({});
  if (value.dict_body() == nullptr) throw Failure("items needs a dict, not " + type_name(value));
  return call_method(value, "items", {}, budget);
}

using Filter = Value (*)(const Value&, const Arguments&, Budget&);

const std::map<std::string_view, Filter>& filters() {
  static const std::map<std::string_view, Filter> table = {
      {"tojson", tojson},
      {"length", [](const Value& v, const Arguments&, Budget&) { return length(v); }},
      {"count", [](const Value& v, const Arguments&, Budget&) { return length(v); }},
      {"trim", [](const Value& v, const Arguments& a,
                  Budget&) { return Value(strip_text(to_text(v), a.find(0, "chars"), true, true)); }},
      {"items", [](const Value& v, const Arguments&, Budget& b) { return pairs_of(v, b); }},
      {"lower", [](const Value& v, const Arguments&, Budget&) { return Value(lower_text(to_text(v))); }},
      {"upper", [](const Value& v, const Arguments&, Budget&) { return Value(upper_text(to_text(v))); }},
      {"capitalize",
       [](const Value& v, const Arguments&, Budget&) { return Value(capitalize_text(to_text(v))); }},
      {"title", [](const Value& v, const Arguments&, Budget&) { return Value(title_text(to_text(v))); }},
      {"join", join},
      {"indent", indent},
      {"list", [](const Value& v, const Arguments&, Budget&) { return Value::list(iterate(v)->items); }},
      {"safe", [](const Value& v, const Arguments&, Budget&) { return Value(to_text(v)); }},
      {"string", [](const Value& v, const Arguments&, Budget&) { return Value(to_text(v)); }},
      {"escape", [](const Value& v, const Arguments&, Budget&) { return escape(v); }},
      {"e", [](const Value& v, const Arguments&, Budget&) { return escape(v); }},
      {"select", [](const Value& v, const Arguments& a, Budget& b) { return select(v, a, true, false, b); }},
      {"reject", [](const Value& v, const Arguments& a, Budget& b) { return select(v, a, false, false, b); }},
      {"selectattr",
       [](const Value& v, const Arguments& a, Budget& b) { return select(v, a, true, true, b); }},
      {"rejectattr",
       [](const Value& v, const Arguments& a, Budget& b) { return select(v, a, false, true, b); }},
      {"map", map},
      {"unique", unique},
      {"dictsort", dictsort},
      {"sum", sum},
      {"first", [](const Value& v, const Arguments&, Budget&) { return first_or_last(v, true); }},
      {"last", [](const Value& v, const Arguments&, Budget&) { return first_or_last(v, false); }},
      {"reverse", [](const Value& v, const Arguments&, Budget&) { return reverse(v); }},
      {"min", [](const Value& v, const Arguments& a, Budget& b) { return extreme(v, a, false, b); }},
      {"max", [](const Value& v, const Arguments& a, Budget& b) { return extreme(v, a, true, b); }},
      {"int", [](const Value& v, const Arguments& a, Budget&) { return to_integer(v, a); }},
      {"float", [](const Value& v, const Arguments& a, Budget&) { return to_real(v, a); }},
      {"abs", [](const Value& v, const Arguments&, Budget&) { return absolute(v); }},
      {"round", [](const Value& v, const Arguments& a, Budget&) { return round_number(v, a); }},
      {"sort",
       [](const Value& v, const Arguments& a, Budget& b) {
         return sorted(iterate(v)->items,
                       sort_key(a.find(2, "attribute"), a.flag(1, "case_sensitive", false), b),
                       a.flag(0, "reverse", false), b);
       }},
      {"replace",
       [](const Value& v, const Arguments& a, Budget& b) {
         return Value(replace_text(to_text(v), text_argument(a, 0, "old"), text_argument(a, 1, "new"),
                                   a.integer(2, "count", -1), b));
       }},
      {"attr", [](const Value& v, const Arguments& a,
                  Budget&) { return get_attribute(v, text_argument(a, 0, "name")); }},
  };
  return table;
}

}  // namespace

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments, Budget& budget) {
  budget.charge(value.weight() + 8);
  if (name == "default" || name == "d") {
    const bool missing = value.is_undefined() || (arguments.flag(1, "boolean", false) && !value.truth());
    return missing ? arguments.get(0, "default_value", "") : value;
  }
  const auto found = filters().find(name);
  if (found == filters().end()) throw Failure("the filter '" + std::string(name) + "' is not supported");
  return found->second(value, arguments, budget);
}

}  // namespace qwb::jinja
