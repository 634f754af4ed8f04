// Filters of lists and other sequences.
#include <algorithm>
#include <cmath>

#include "lib/chat/jinja/filters.h"
#include "lib/chat/jinja/unicode.h"

namespace qwb::jinja {
namespace {

using Items = std::vector<Value>;
using Key = std::function<Value(const Value&)>;

// The key that sort, unique, min and max compare: an attribute, in lower case unless case matters.
Key key_of(const Value* attribute, bool case_sensitive, const Value* fallback, Budget& budget) {
  std::optional<Value> kept;
  if (fallback != nullptr) kept = *fallback;
  return [parts = attribute_parts(attribute), case_sensitive, kept, &budget](const Value& item) {
    Value key = get_path(item, parts, kept ? &*kept : nullptr, budget);
    if (!case_sensitive && key.text() != nullptr)
      return Value::text_like(lower_text(*key.text()), key.is_markup());
    return key;
  };
}

Items sorted(const Items& items, const Key& key, bool reverse, Budget& budget) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) {
    keyed.emplace_back(key(item), item);
    if (const double* real = keyed.back().first.as<double>(); real != nullptr && std::isnan(*real))
      throw Unsupported("sorting NaN is not supported");
  }
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    budget.charge(4 + std::min(a.first.weight(), b.first.weight()));
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  Items out;
  for (auto& item : keyed) out.push_back(std::move(item.second));
  return out;
}

Value sort(const FilterCall& c) {
  // "a,b" sorts by a, then b: the keys are lists.
  const Value* attribute = c.given.find(2);
  std::vector<std::vector<Value>> paths;
  if (attribute != nullptr && attribute->text() != nullptr) {
    std::string_view rest = *attribute->text();
    for (bool more = true; more;) {
      const size_t comma = rest.find(',');
      more = comma != std::string_view::npos;
      const Value part = rest.substr(0, comma);
      paths.push_back(attribute_parts(&part));
      if (more) rest.remove_prefix(comma + 1);
    }
  } else {
    paths.push_back(attribute_parts(attribute));
  }
  const bool case_sensitive = c.given.flag(1, false);
  const auto key = [&](const Value& item) {
    Items keys;
    for (const auto& path : paths) {
      Value part = get_path(item, path, nullptr, c.budget);
      if (!case_sensitive && part.text() != nullptr) part = lower_text(*part.text());
      if (const double* real = part.as<double>(); real != nullptr && std::isnan(*real))
        throw Unsupported("sorting NaN is not supported");
      keys.push_back(std::move(part));
    }
    return Value::list(std::move(keys));
  };
  return Value::list(sorted(iterate(c.value)->items, key, c.given.flag(0, false), c.budget));
}

Value dictsort(const FilterCall& c) {
  const std::string by =
      c.given.find(1) != nullptr && c.given.at(1).text() != nullptr ? c.given.text(1) : "key";
  if (c.given.find(1) != nullptr &&
      (c.given.at(1).text() == nullptr || (by != "key" && by != "value")))
    throw Failure("dictsort sorts by key or by value");
  if (c.value.dict_body() == nullptr)
    throw Failure("dictsort needs a dict, not " + type_name(c.value));
  Items pairs;
  for (const auto& [key, item] : c.value.dict_body()->items)
    pairs.push_back(Value::list({key, item}, true));
  const Value position = by == "value" ? int64_t{1} : int64_t{0};
  return Value::list(sorted(pairs, key_of(&position, c.given.flag(0, false), nullptr, c.budget),
                            c.given.flag(2, false), c.budget));
}

Value group_by(const FilterCall& c) {
  const Value* fallback = c.given.find_some(1);
  const bool case_sensitive = c.given.flag(2, false);
  const Key key = key_of(c.given.find(0), case_sensitive, fallback, c.budget);
  const Key shown = key_of(c.given.find(0), true, fallback, c.budget);
  Items groups, group;
  Value current;
  const auto finish = [&] {
    if (group.empty()) return;
    Value label = case_sensitive ? current : shown(group[0]);
    auto body = std::make_shared<ListBody>(
        *Value::list({label, Value::list(std::move(group))}, true).items());
    body->group = true;
    groups.emplace_back(Value::List(std::move(body)));
    group = {};
  };
  for (const Value& item : sorted(iterate(c.value)->items, key, false, c.budget)) {
    Value found = key(item);
    if (!group.empty() && !equal(found, current)) finish();
    if (group.empty()) current = std::move(found);
    group.push_back(item);
  }
  finish();
  return Value::list(std::move(groups));
}

Value unique(const FilterCall& c) {
  auto key = key_of(c.given.find(1), c.given.flag(0, false), nullptr, c.budget);
  return Value::iterator(c.value.depth(), [next = iterate_once(c.value), key, seen = Items(),
                                           &budget = c.budget](Value& out) mutable {
    while (next(out)) {
      Value k = key(out);
      require_hashable(k);
      budget.charge(static_cast<int64_t>(seen.size()) * 4 + k.weight());
      if (std::ranges::any_of(seen, [&](const Value& other) { return equal_items(k, other); }))
        continue;
      seen.push_back(std::move(k));
      return true;
    }
    return false;
  });
}

Value extreme(const FilterCall& c, bool largest) {
  const Key key = key_of(c.given.find(1), c.given.flag(0, false), nullptr, c.budget);
  const auto next = iterate_once(c.value);
  Value best;
  if (!next(best)) return Undefined{"of an empty sequence"};
  Value best_key = key(best);
  for (Value item; next(item);) {
    Value k = key(item);
    c.budget.charge(4 + std::min(k.weight(), best_key.weight()));
    if (!(largest ? less(best_key, k) : less(k, best_key))) continue;
    best = item;
    best_key = std::move(k);
  }
  return best;
}

// Python 3.12 and later add floats with a correction: where that changes the result there is no one
// reference.
void check_float_sum(const Items& items, double total) {
  double sum = 0, lost = 0;
  for (const Value& item : items) {
    double x = 0;
    item.number(x);
    const double t = sum + x;
    lost += std::abs(sum) >= std::abs(x) ? (sum - t) + x : (x - t) + sum;
    sum = t;
  }
  if (std::isfinite(total) && sum + lost != total)
    throw Unsupported("sum of floats that differs between Python's versions is not supported");
}

Value sum(const FilterCall& c) {
  Value total = c.given.get(1, int64_t{0});
  if (total.text() != nullptr) throw Failure("sum cannot begin with a string");
  const auto parts = attribute_parts(c.given.find(0));
  Items added = {total};
  const auto next = iterate_once(c.value);
  bool numbers = total.is_number();
  for (Value item; next(item);) {
    added.push_back(get_path(item, parts, nullptr, c.budget));
    numbers = numbers && added.back().is_number();
    total = arithmetic("+", total, added.back(), c.budget);
  }
  if (const double* real = total.as<double>(); real != nullptr && numbers)
    check_float_sum(added, *real);
  return total;
}

Value join(const FilterCall& c) {
  const std::string separator = to_text(c.given.get(0, ""));
  const auto parts = attribute_parts(c.given.find(1));
  std::string out;
  bool first = true;
  const auto next = iterate_once(c.value);
  for (Value item; next(item);) {
    const std::string text = to_text(get_path(item, parts, nullptr, c.budget));
    c.budget.charge(static_cast<int64_t>(text.size() + separator.size()) + 1);
    if (!first) out += separator;
    first = false;
    out += text;
  }
  return out;
}

Value length(const FilterCall& c) {
  const auto size = c.value.length();
  if (!size) throw Failure(type_name(c.value) + " has no length");
  return *size;
}

Value first(const FilterCall& c) {
  Value item;
  return iterate_once(c.value)(item) ? item : Value(Undefined{"the first item of nothing"});
}

bool is_reversible(const Value& value) {
  return value.is_undefined() || value.text() || value.items() || value.dict_body() ||
         value.as<View>() || value.as<Range>();
}

Value last(const FilterCall& c) {
  if (!is_reversible(c.value)) throw Failure("last needs a sequence, not " + type_name(c.value));
  const auto list = iterate(c.value);
  return list->items.empty() ? Value(Undefined{"the last item of nothing"}) : list->items.back();
}

Value reverse(const FilterCall& c) {
  Items items = iterate(c.value)->items;
  std::ranges::reverse(items);
  if (c.value.text() != nullptr) {
    std::string out;
    for (const Value& item : items) out += *item.text();
    return Value::text_like(std::move(out), c.value.is_markup());
  }
  const Value list = Value::list(std::move(items));
  if (!is_reversible(c.value)) return list;
  return Value::iterator(c.value.depth(), iterate_once(list), "reversed iterator");
}

Value batch(const FilterCall& c) {
  const int64_t count = c.given.integer(0, 0);
  const Value fill = c.given.get(1, nullptr);
  if (count > kMaxWeight) throw Failure("a batch is too large");
  c.budget.charge(std::max<int64_t>(count, 0));
  return Value::iterator(c.value.depth() + 1, [next = iterate_once(c.value), count, fill,
                                               row = Items(), done = false](Value& out) mutable {
    if (done) return false;
    for (Value item; next(item);) {
      const bool full = static_cast<int64_t>(row.size()) == count;
      if (full) out = Value::list(std::exchange(row, {}));
      row.push_back(item);
      if (full) return true;
    }
    done = true;
    if (row.empty()) return false;
    while (!fill.is_none() && static_cast<int64_t>(row.size()) < count) row.push_back(fill);
    out = Value::list(std::move(row));
    return true;
  });
}

Value slice(const FilterCall& c) {
  const int64_t slices = c.given.integer(0, 0);
  const Value fill = c.given.get(1, nullptr);
  if (slices > 100000) throw Failure("too many slices");
  return Value::iterator(c.value.depth() + 1, [source = c.value, slices, fill, all = Value::List(),
                                               at = int64_t{0}](Value& out) mutable {
    if (!all) all = iterate(source);
    if (slices == 0) throw Failure("division by zero");
    if (at >= slices) return false;
    const auto size = static_cast<int64_t>(all->items.size()), each = size / slices,
               extra = size % slices;
    const int64_t begin = at * each + std::min(at, extra),
                  end = begin + each + (at < extra ? 1 : 0);
    Items part(all->items.begin() + begin, all->items.begin() + end);
    if (!fill.is_none() && at >= extra) part.push_back(fill);
    ++at;
    out = Value::list(std::move(part));
    return true;
  });
}

Value pairs_of(const FilterCall& c) {
  return Value::iterator(
      c.value.depth() + 1,
      [source = c.value, next = std::function<bool(Value&)>()](Value& out) mutable {
        if (!next) {
          if (!source.is_undefined() && source.dict_body() == nullptr)
            throw Failure("items needs a dict, not " + type_name(source));
          next = iterate_once(source.is_undefined()
                                  ? source
                                  : Value(View{*source.as<Value::Dict>(), View::Of::items}));
        }
        return next(out);
      });
}

Value with_default(const FilterCall& c) {
  const bool missing = c.value.is_undefined() || (c.given.flag(1, false) && !c.value.truth());
  return missing ? c.given.get(0, "") : c.value;
}

}  // namespace

const FilterTable& sequence_filters() {
  static const FilterTable table = {
      {"attr",
       {"name", [](const FilterCall& c) { return get_attribute_only(c.value, c.given.text(0)); }}},
      {"batch", {"linecount ?fill_with", batch}},
      {"count", {"/", length}},
      {"d", {"?default_value ?boolean", with_default}},
      {"default", {"?default_value ?boolean", with_default}},
      {"dictsort", {"?case_sensitive ?by ?reverse", dictsort}},
      {"first", {"", first}},
      {"groupby", {"attribute ?default ?case_sensitive", group_by}},
      {"items", {"", pairs_of}},
      {"join", {"?d ?attribute", join}},
      {"last", {"", last}},
      {"length", {"/", length}},
      {"list", {"", [](const FilterCall& c) { return Value::list(iterate(c.value)->items); }}},
      {"max", {"?case_sensitive ?attribute", [](const FilterCall& c) { return extreme(c, true); }}},
      {"min",
       {"?case_sensitive ?attribute", [](const FilterCall& c) { return extreme(c, false); }}},
      {"reverse", {"", reverse}},
      {"slice", {"slices ?fill_with", slice}},
      {"sort", {"?reverse ?case_sensitive ?attribute", sort}},
      {"sum", {"?attribute ?start", sum}},
      {"unique", {"?case_sensitive ?attribute", unique}},
  };
  return table;
}

}  // namespace qwb::jinja
