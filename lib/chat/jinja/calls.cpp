// Everything that a template can call: methods, macros, the bodies of call blocks, loops, and the
// global functions.
#include <algorithm>

#include "lib/chat/jinja/renderer.h"

namespace qwb::jinja {

Arguments Renderer::arguments(const Expression& node) {
  Arguments given;
  for (const auto& argument : node.arguments) given.positional.push_back(evaluate(*argument));
  for (const auto& [key, argument] : node.keywords)
    given.named.emplace_back(key, evaluate(*argument));
  if (node.more_arguments) {
    const Value more = evaluate(*node.more_arguments);
    const auto next = iterate_once(more);
    for (Value item; next(item);) {
      budget_.charge(kStepCost);
      given.positional.push_back(item);
    }
  }
  if (node.more_keywords) {
    const Value more = evaluate(*node.more_keywords);
    if (more.dict_body() == nullptr) throw Failure("** needs a dict, not " + type_name(more));
    for (const auto& [key, value] : more.dict_body()->items) {
      budget_.charge(kStepCost);
      if (key.text() == nullptr)
        throw Failure("the names of arguments are strings, not " + type_name(key));
      if (std::ranges::find(given.named, *key.text(), &std::pair<std::string, Value>::first) !=
          given.named.end())
        throw Failure("the argument '" + *key.text() + "' is given twice");
      given.named.emplace_back(*key.text(), value);
    }
  }
  return given;
}

Value Renderer::call(const Value& callee, const Arguments& given) {
  if (const auto* builtin = callee.as<Builtin>()) return call_builtin(builtin->name, given);
  if (const auto* macro = callee.as<MacroRef>()) return call_macro(*macro, given);
  if (const auto* method = callee.as<Method>())
    return call_method(*method->object, method->name, given, budget_);
  if (const auto* loop = callee.as<Value::Loop>()) return call_loop(**loop, given);
  if (const auto* counter = callee.as<Value::Counter>();
      counter != nullptr && !(*counter)->cycler) {
    const Bound none(given, "/", "joiner");
    return (*counter)->at++ == 0 ? Value("") : (*counter)->items[0];
  }
  throw Failure(type_name(callee) + " cannot be called");
}

Value Renderer::call_macro(const MacroRef& callee, Arguments given) {
  const Deeper deeper(*this);
  const Statement& macro = *callee.macro;
  const std::string called = "the macro '" + macro.text + "'";
  const size_t count = macro.parameters.size(), first_default = count - macro.defaults.size();
  const auto take = [&given](const std::string& name) -> std::optional<Value> {
    const auto found = std::ranges::find(given.named, name, &std::pair<std::string, Value>::first);
    if (found == given.named.end()) return std::nullopt;
    Value value = std::move(found->second);
    given.named.erase(found);
    return value;
  };
  std::vector<std::optional<Value>> parameters;
  for (size_t i = 0; i < count; ++i)
    parameters.push_back(i < given.positional.size() ? std::optional(given.positional[i])
                                                     : take(macro.parameters[i]));
  std::optional<Value> caller;
  if (macro.caller_slot >= 0) caller = take("caller");
  if (!macro.takes_kwargs && !given.named.empty())
    throw Failure(called + " has no parameter '" + given.named[0].first + "', or got it twice");
  if (!macro.takes_varargs && given.positional.size() > count)
    throw Failure(called + " takes at most " + std::to_string(count) + " arguments");
  return in_function(macro.slots, callee.outer, [&] {
    const auto set = [&](int at, Value value) { here_->slots[at] = std::move(value); };
    if (macro.caller_slot >= 0)
      set(macro.caller_slot, caller && !caller->is_none() ? *caller : Value(Undefined{"caller"}));
    if (macro.kwargs_slot >= 0) {
      std::vector<std::pair<Value, Value>> named;
      for (auto& [key, value] : given.named) named.emplace_back(key, value);
      set(macro.kwargs_slot, Value::dict(std::move(named)));
    }
    if (macro.varargs_slot >= 0) {
      const auto begin =
          given.positional.begin() + static_cast<int64_t>(std::min(count, given.positional.size()));
      set(macro.varargs_slot, Value::list({begin, given.positional.end()}, true));
    }
    for (size_t i = 0; i < count; ++i) here_->slots[macro.parameter_slots[i]] = parameters[i];
    enter(macro.loads);
    for (size_t i = 0; i < count; ++i) {
      if (parameters[i]) continue;
      set(macro.parameter_slots[i], i >= first_default
                                        ? evaluate(*macro.defaults[i - first_default])
                                        : Value(Undefined{macro.parameters[i]}));
    }
    run(macro.body);
  });
}

// loop(items) of a recursive loop.
std::string Renderer::call_loop(LoopBody& loop, const Arguments& given) {
  const Deeper deeper(*this);
  if (loop.recursive == nullptr) throw Failure("only a loop marked as recursive can be called");
  const Bound items(given, "iterable", "loop");
  const Value source = items.at(0);
  const Statement& statement = *loop.recursive;
  return in_function(statement.slots, loop.outer,
                     [&] { run_loop(statement, source, loop.depth0 + 1); });
}

Value Renderer::make_namespace(const Arguments& given) {
  auto items = dict_items(given, "namespace", budget_);
  for (const auto& [key, value] : items) {
    if (key.text() != nullptr && key.text()->starts_with('_'))
      throw Failure("a namespace attribute must not begin with '_'");
    if (value.as<Value::Loop>() != nullptr)
      throw Unsupported("'loop' cannot be stored in a namespace");
  }
  namespaces_.push_back(std::make_unique<Namespace>());
  namespaces_.back()->items = std::move(items);
  return namespaces_.back().get();
}

Value Renderer::call_builtin(const std::string& name, const Arguments& given) {
  budget_.charge(kStepCost);
  if (name == "raise_exception") throw Refusal(to_text(Bound(given, "message", name).at(0)));
  if (name == "strftime_now") return strftime_now(given);
  if (name == "dict") return Value::dict(dict_items(given, "dict", budget_));
  if (name == "namespace") return make_namespace(given);
  if (name == "range") {
    const Bound bound(given, "start ?stop ?step /", name);
    const bool single = bound.find(1) == nullptr;
    const int64_t first = bound.integer(0, 0);
    const Range range{single ? 0 : first, single ? first : bound.integer(1, 0),
                      bound.integer(2, 1)};
    if (range.step == 0) throw Failure("range() with a step of 0");
    if (range.length() > 100000)
      throw Failure("range() of more than 100000 items");  // the limit of Jinja's sandbox
    return range;
  }
  if (name == "joiner" || name == "cycler") {
    auto body = std::make_shared<CounterBody>();
    body->cycler = name == "cycler";
    if (body->cycler) {
      if (!given.named.empty() || given.positional.empty())
        throw Failure("cycler() takes one item at least, without names");
      body->items = given.positional;
    } else {
      body->items = {Bound(given, "?sep", name).get(0, ", ")};
    }
    return body;
  }
  throw Unsupported("the function " + name + "() is not supported");
}

std::string Renderer::strftime_now(const Arguments& given) const {
  const Bound bound(given, "format", "strftime_now");
  if (bound.text(0).size() > 1000)
    throw Failure("strftime_now() with a format of more than 1000 bytes");
  std::string format;
  for (size_t i = 0; i < bound.text(0).size(); ++i) {
    const char c = bound.text(0)[i],
               next = i + 1 < bound.text(0).size() ? bound.text(0)[i + 1] : '\0';
    if (c == '%' && next == 'f') throw Unsupported("%f of strftime_now() is not supported");
    if (c == '%' && (next == 'z' || next == 'Z')) {  // Python's now() knows no time zone
      ++i;
      continue;
    }
    format += c;
    if (c == '%' && next == '%') format += bound.text(0)[++i];
  }
  if (format.empty()) return "";
  std::tm local{};
  localtime_r(&now_, &local);
  std::string text(64 * 1024, '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &local));
  return text;
}

}  // namespace qwb::jinja
