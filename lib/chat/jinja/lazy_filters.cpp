// The filters that draw from their value one by one: map, select, reject, selectattr, rejectattr.
#include <algorithm>
#include <memory>

#include "lib/chat/jinja/filters.h"

namespace qwb::jinja {
namespace {

using Change = std::function<Value(const Value&)>;

// Draws from `value`, if that is true, once `make` has looked at the arguments; both at the first
// item, as a Python generator does.
Value drawn(const Value& value, Budget& budget, std::function<Change()> make, bool keeps) {
  struct State {
    std::function<bool(Value&)> next;
    Change change;
    bool begun = false, ended = false;
  };
  return Value::iterator(value.depth(), [value, &budget, make = std::move(make), keeps,
                                         state = std::make_shared<State>()](Value& out) {
    if (state->ended) return false;
    state->ended = true;  // unless this goes well: a generator that threw is at its end
    if (!state->begun) {
      state->begun = true;
      if (!value.truth()) return false;
      state->change = make();
      state->next = iterate_once(value);
    }
    for (Value item; state->next(item);) {
      budget.charge(8);
      Value changed = state->change(item);
      if (keeps && !changed.truth()) continue;
      out = keeps ? item : std::move(changed);
      state->ended = false;
      return true;
    }
    return false;
  });
}

const std::string& name_of(const Value& value, const char* what) {
  if (value.text() == nullptr)
    throw Failure("a " + std::string(what) + " is named by a string, not " + type_name(value));
  return *value.text();
}

Change map_change(Arguments given, Budget& budget) {
  const auto attribute =
      std::ranges::find(given.named, "attribute", &std::pair<std::string, Value>::first);
  if (given.positional.empty() && attribute != given.named.end()) {
    const Bound bound(given, "attribute ?default", "map");
    std::optional<Value> fallback;
    if (const Value* found = bound.find_some(1)) fallback = *found;
    return [parts = attribute_parts(bound.find(0)), fallback, &budget](const Value& item) {
      return get_path(item, parts, fallback ? &*fallback : nullptr, budget);
    };
  }
  if (given.positional.empty()) throw Failure("map needs a filter");
  const Value name = given.positional[0];
  given.positional.erase(given.positional.begin());
  return [name, given = std::move(given), &budget](const Value& item) {
    return apply_filter(name_of(name, "filter"), item, given, budget);
  };
}

Change select_change(Arguments given, bool keep, bool by_attribute, Budget& budget) {
  std::vector<Value> parts;
  const auto take = [&given] {
    const Value first = given.positional.front();
    given.positional.erase(given.positional.begin());
    return first;
  };
  if (by_attribute) {
    if (given.positional.empty())
      throw Failure("selectattr and rejectattr need the name of an attribute");
    const Value attribute = take();
    parts = attribute_parts(&attribute);
  }
  std::optional<Value> test;
  if (!given.positional.empty()) test = take();
  return [parts, test, given = std::move(given), keep, &budget](const Value& item) {
    const Value subject = get_path(item, parts, nullptr, budget);
    const bool good =
        test ? apply_test(name_of(*test, "test"), subject, given, budget) : subject.truth();
    return Value(good == keep);
  };
}

}  // namespace

bool is_lazy_filter(std::string_view name) {
  return name == "map" || name == "select" || name == "reject" || name == "selectattr" ||
         name == "rejectattr";
}

Value apply_lazy_filter(std::string_view name, const Value& value, const Arguments& arguments,
                        Budget& budget) {
  if (name == "map")
    return drawn(
        value, budget, [arguments, &budget] { return map_change(arguments, budget); }, false);
  const bool keep = name.starts_with("select"), by_attribute = name.ends_with("attr");
  return drawn(
      value, budget, [=, &budget] { return select_change(arguments, keep, by_attribute, budget); },
      true);
}

}  // namespace qwb::jinja
