// What a template can call: methods, macros, the bodies of call blocks, and the global functions.
#include <algorithm>

#include "lib/tokenizer/jinja_renderer.h"

namespace qwb::jinja {

Value Renderer::evaluate_call(const Expression& node) {
  const Expression& target = *node.children[0];
  if (target.op != Op::attribute) {
    const Value callee = evaluate(target);
    if (callee.is_undefined()) throw Failure(type_name(callee) + " cannot be called");
    return call(callee, arguments(node));
  }
  const Value object = evaluate(*target.children[0]);
  if (object.is_undefined()) throw Failure(type_name(object) + " has no method '" + target.text + "'");
  const Arguments given = arguments(node);
  if (object.as<Namespace*>() != nullptr) return call(get_attribute(object, target.text), given);
  return call_method(object, target.text, given, budget_);
}

Value Renderer::call(const Value& callee, const Arguments& given) {
  if (const auto* builtin = callee.as<Builtin>()) return call_builtin(builtin->name, given);
  if (const auto* macro = callee.as<MacroRef>()) return call_macro(*macro->macro, given);
  if (const auto* method = callee.as<Method>())
    return call_method(*method->object, method->name, given, budget_);
  throw Failure(type_name(callee) + " cannot be called");
}

Value Renderer::call_macro(const Statement& macro, const Arguments& given) {
  const Deeper deeper(*this);
  // A macro sees the template's top level, the body of a call block the place where it stands.
  Scope scope{&root_, {}};
  if (macro.kind == Kind::call_block) {
    const auto active = std::ranges::find(callers_.rbegin(), callers_.rend(), &macro, &Caller::statement);
    if (active == callers_.rend()) throw Failure("caller() outside of its call block");
    scope.parent = active->scope;
  }
  const size_t count = macro.targets.size(), first_default = count - macro.defaults.size();
  if (given.positional.size() > count)
    throw Failure("the macro '" + macro.text + "' takes " + std::to_string(count) + " arguments");
  for (const auto& [key, value] : given.named) {
    if (key != "caller" && std::ranges::find(macro.targets, key) == macro.targets.end()) {
      throw Failure("the macro '" + macro.text + "' has no parameter '" + key + "'");
    }
    if (key == "caller") scope.names[key] = value;
  }
  for (size_t i = 0; i < count; ++i) {
    const Value* value = given.find(i, macro.targets[i]);
    Scope* const outer = std::exchange(scope_, &scope);
    Value chosen = value != nullptr     ? *value
                   : i >= first_default ? evaluate(*macro.defaults[i - first_default])
                                        : Value(Undefined{macro.targets[i]});
    scope_ = outer;
    scope.names[macro.targets[i]] = std::move(chosen);
  }
  return capture(macro.body, scope);
}

Value Renderer::call_builtin(const std::string& name, const Arguments& given) {
  if (name == "raise_exception") throw Refusal(to_text(given.get(0, "message", "")));
  if (name == "strftime_now") return strftime_now(given);
  if (name == "range") {
    const bool single = given.positional.size() < 2;
    int64_t begin = single ? 0 : given.integer(0, "start", 0);
    const int64_t end = given.integer(single ? 0 : 1, "stop", 0), step = given.integer(2, "step", 1);
    if (step == 0) throw Failure("range() with a step of 0");
    std::vector<Value> items;
    for (; step > 0 ? begin < end : begin > end;) {
      if (items.size() >= 100000)
        throw Failure("range() of more than 100000 items");  // the limit of Jinja's sandbox
      items.emplace_back(begin);
      if (__builtin_add_overflow(begin, step, &begin)) break;
    }
    budget_.charge(static_cast<int64_t>(items.size()) * kStepCost);
    return Value::list(std::move(items));
  }
  std::vector<std::pair<std::string, Value>> items;
  if (!given.positional.empty()) {
    const auto* dict = given.positional[0].dict_body();
    if (dict == nullptr) throw Failure(name + "() takes a dict or named arguments");
    for (const auto& [key, value] : dict->items) items.emplace_back(to_text(key), value);
  }
  items.insert(items.end(), given.named.begin(), given.named.end());
  budget_.charge(static_cast<int64_t>(items.size()) * kStepCost);
  if (name == "dict") {
    std::vector<std::pair<Value, Value>> pairs;
    pairs.reserve(items.size());
    for (auto& [key, value] : items) pairs.emplace_back(key, std::move(value));
    return Value::dict(std::move(pairs));
  }
  namespaces_.push_back(std::make_unique<Namespace>());
  namespaces_.back()->items = std::move(items);
  return namespaces_.back().get();
}

std::string Renderer::strftime_now(const Arguments& given) const {
  const std::string format = to_text(given.get(0, "format", ""));
  if (format.empty()) return "";
  if (format.size() > 1000) throw Failure("strftime_now() with a format of more than 1000 bytes");
  std::tm local{};
  localtime_r(&now_, &local);
  std::string text(64 * 1024, '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &local));
  return text;
}

}  // namespace qwb::jinja
