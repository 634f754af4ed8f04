// Methods of lists, tuples, dicts, numbers, loops and cyclers.
#include "lib/chat/jinja/methods.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace qwb::jinja {
namespace {

Value dict_method(const Value& object, const std::string& name, const Arguments& arguments,
                  Budget& budget) {
  const auto& dict = *object.as<Value::Dict>();
  budget.charge(static_cast<int64_t>(dict->items.size()) + 1);
  if (name == "get") {
    const Bound given(arguments, "key ?default /", name);
    require_hashable(given.at(0));
    const Value* found = object.find(given.at(0));
    return found != nullptr ? *found : given.get(1, nullptr);
  }
  if (name == "fromkeys") throw Unsupported("the method fromkeys() of a dict is not supported");
  const Bound given(arguments, "/", name);
  if (name == "copy") return Value::dict(dict->items);
  return View{dict, name == "keys"     ? View::Of::keys
                    : name == "values" ? View::Of::values
                                       : View::Of::items};
}

Value sequence_method(const Value& object, const std::string& name, const Arguments& arguments,
                      Budget& budget) {
  budget.charge(object.weight());
  const auto list = iterate(object);
  if (name == "copy") {
    const Bound given(arguments, "/", name);
    return Value::list(list->items);
  }
  const Bound given(
      arguments,
      name == "count" || object.as<Range>() != nullptr ? "value /" : "value ?start ?stop /", name);
  const auto same = [&](const Value& item) { return equal_items(item, given.at(0)); };
  if (name == "count") return static_cast<int64_t>(std::ranges::count_if(list->items, same));
  const auto size = static_cast<int64_t>(list->items.size());
  const auto bound = [&](size_t i, int64_t fallback) {
    const int64_t at = object.as<Range>() != nullptr ? fallback : given.integer(i, fallback);
    return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
  };
  for (int64_t at = bound(1, 0), end = bound(2, size); at < end; ++at) {
    if (same(list->items[at])) return at;
  }
  throw Failure("the " + type_name(object) + " does not hold the value");
}

Value number_method(const Value& object, const std::string& name, const Arguments& arguments) {
  const Bound given(arguments, "/", name);
  int64_t whole = 0;
  const double* real = object.as<double>();
  if (name == "is_integer" && real != nullptr)
    return std::isfinite(*real) && *real == std::floor(*real);
  if (name == "conjugate" && real != nullptr) return *real;
  if (real == nullptr && object.integer(whole) != nullptr) {
    const uint64_t magnitude =
        whole < 0 ? -static_cast<uint64_t>(whole) : static_cast<uint64_t>(whole);
    if (name == "bit_length") return static_cast<int64_t>(std::bit_width(magnitude));
    if (name == "bit_count") return static_cast<int64_t>(std::popcount(magnitude));
    if (name == "conjugate") return whole;
  }
  throw Unsupported("the method " + name + "() of a number is not supported");
}

Value loop_method(LoopBody& loop, const std::string& name, const Arguments& arguments) {
  if (!arguments.named.empty()) throw Failure("loop." + name + "() takes no named arguments");
  if (name == "cycle") {
    const auto size = static_cast<int64_t>(arguments.positional.size());
    if (size == 0) throw Failure("no items for cycling given");
    return arguments.positional[static_cast<size_t>(((loop.index0 % size) + size) % size)];
  }
  Value now = Value::list(arguments.positional, true);
  if (loop.changed && equal(*loop.changed, now)) return false;
  loop.changed = std::move(now);
  return true;
}

Value cycler_method(CounterBody& counter, const std::string& name, const Arguments& arguments) {
  const Bound given(arguments, "/", name);
  if (name == "reset") {
    counter.at = 0;
    return nullptr;
  }
  const Value current = counter.items[counter.at];
  counter.at = (counter.at + 1) % counter.items.size();
  return current;
}

}  // namespace

Value call_method(const Value& object, const std::string& name, const Arguments& arguments,
                  Budget& budget) {
  budget.charge(8);
  if (object.text() != nullptr) return call_text_method(object, name, arguments, budget);
  if (object.dict_body() != nullptr) return dict_method(object, name, arguments, budget);
  if (object.items() != nullptr || object.as<Range>() != nullptr)
    return sequence_method(object, name, arguments, budget);
  if (object.is_number()) return number_method(object, name, arguments);
  if (const auto* loop = object.as<Value::Loop>()) return loop_method(**loop, name, arguments);
  if (const auto* counter = object.as<Value::Counter>())
    return cycler_method(**counter, name, arguments);
  throw Unsupported("the method " + name + "() of a " + type_name(object) + " is not supported");
}

}  // namespace qwb::jinja
