// How calls meet parameters.
#include <algorithm>

#include "lib/chat/jinja/builtins.h"

namespace qwb::jinja {

Bound::Bound(const Arguments& given, std::string_view parameters, std::string_view what)
    : what_(what) {
  std::vector<std::string_view> names;
  std::vector<bool> optional;
  bool positions_only = false;
  while (!parameters.empty()) {
    const size_t end = std::min(parameters.find(' '), parameters.size());
    std::string_view name = parameters.substr(0, end);
    parameters.remove_prefix(std::min(end + 1, parameters.size()));
    if (name == "/") {
      positions_only = true;
      continue;
    }
    optional.push_back(name.starts_with('?'));
    if (optional.back()) name.remove_prefix(1);
    names.push_back(name);
  }
  const std::string called = std::string(what) + "()";
  if (given.positional.size() > names.size())
    throw Failure(called + " takes at most " + std::to_string(names.size()) + " arguments");
  values_.resize(names.size());
  for (size_t i = 0; i < given.positional.size(); ++i) values_[i] = &given.positional[i];
  for (const auto& [key, value] : given.named) {
    const auto at =
        static_cast<size_t>(std::ranges::find(names, std::string_view(key)) - names.begin());
    if (at == names.size() || positions_only)
      throw Failure(called + " has no parameter '" + key + "'");
    if (values_[at] != nullptr) throw Failure(called + " got the argument '" + key + "' twice");
    values_[at] = &value;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (values_[i] == nullptr && !optional[i])
      throw Failure(called + " needs the argument '" + std::string(names[i]) + "'");
  }
}

int64_t Bound::integer(size_t i, int64_t fallback) const {
  int64_t value = fallback;
  if (values_[i] != nullptr && values_[i]->integer(value) == nullptr)
    throw Failure(std::string(what_) + "() needs an integer, not " + type_name(*values_[i]));
  return value;
}

const std::string& Bound::text(size_t i) const {
  if (values_[i]->text() == nullptr)
    throw Failure(std::string(what_) + "() needs a string, not " + type_name(*values_[i]));
  return *values_[i]->text();
}

void set_item(std::vector<std::pair<Value, Value>>& items, Value key, Value value) {
  require_hashable(key);
  const auto same =
      std::ranges::find_if(items, [&](const auto& item) { return equal_items(item.first, key); });
  if (same != items.end()) {
    same->second = std::move(value);
  } else {
    items.emplace_back(std::move(key), std::move(value));
  }
}

std::vector<std::pair<Value, Value>> dict_items(const Arguments& given, const char* what,
                                                Budget& budget) {
  if (given.positional.size() > 1)
    throw Failure(std::string(what) + "() takes one argument without a name");
  std::vector<std::pair<Value, Value>> items;
  if (!given.positional.empty()) {
    const Value& from = given.positional[0];
    budget.charge(from.weight());
    if (from.dict_body() != nullptr) {
      items = from.dict_body()->items;
    } else {
      const auto next = iterate_once(from);
      for (Value item; next(item);) {
        const auto pair = iterate(item);
        if (pair->items.size() != 2) throw Failure(std::string(what) + "() needs pairs");
        budget.charge(static_cast<int64_t>(items.size()) + 1);
        set_item(items, pair->items[0], pair->items[1]);
      }
    }
  }
  for (const auto& [key, value] : given.named) {
    budget.charge(static_cast<int64_t>(items.size()) + 1);
    set_item(items, key, value);
  }
  return items;
}

}  // namespace qwb::jinja
