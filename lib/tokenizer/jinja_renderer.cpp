#include "lib/tokenizer/jinja_renderer.h"

#include <algorithm>

namespace qwb::jinja {

constexpr int kMaxRecursion = 1000;
constexpr int64_t kMaxOutput = 64 << 20;
constexpr int64_t kStepCost = 32;

class Renderer::Deeper {
 public:
  explicit Deeper(Renderer& renderer) : renderer_(renderer) {
    if (++renderer.depth_ > kMaxRecursion) {
      --renderer.depth_;
      throw Failure("the template recurses too deeply");
    }
  }
  ~Deeper() { --renderer_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Renderer& renderer_;
};

std::string Renderer::render(const Block& block, const Value& variables) {
  for (const char* name : {"range", "namespace", "dict", "raise_exception", "strftime_now"})
    root_.names[name] = Builtin{name};
  for (const auto& [key, value] : variables.dict_body()->items) root_.names[*key.text()] = value;
  run(block);
  return std::move(output_);
}

void Renderer::print(std::string_view text) {
  budget_.charge(static_cast<int64_t>(text.size()));
  if (static_cast<int64_t>(out_->size() + text.size()) > kMaxOutput)
    throw Failure("the template makes more than 64 MiB of text");
  out_->append(text);
}

Renderer::Flow Renderer::run(const Block& block) {
  for (const auto& statement : block) {
    if (const Flow flow = run(*statement); flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

std::string Renderer::capture(const Block& block, Scope& scope) {
  std::string text;
  std::string* const out = std::exchange(out_, &text);
  Scope* const outer = std::exchange(scope_, &scope);
  run(block);
  scope_ = outer;
  out_ = out;
  return text;
}

Renderer::Flow Renderer::run(const Statement& statement) {
  const Deeper deeper(*this);
  line_ = statement.line;
  budget_.charge(kStepCost);
  switch (statement.kind) {
    case Kind::text:
      print(statement.text);
      return Flow::normal;
    case Kind::print: {
      const Value value = evaluate(*statement.value);
      budget_.charge(value.weight());
      print(to_text(value));
      return Flow::normal;
    }
    case Kind::loop:
      return run_loop(statement);
    case Kind::branch:
      return run_branch(statement);
    case Kind::assign:
      assign(statement, evaluate(*statement.value));
      return Flow::normal;
    case Kind::macro:
      scope_->names[statement.text] = MacroRef{&statement};
      return Flow::normal;
    case Kind::scope:
      return run_scope(statement);
    case Kind::break_loop:
      return Flow::break_loop;
    case Kind::continue_loop:
      return Flow::continue_loop;
    case Kind::assign_block:
    case Kind::filter_block: {
      Scope scope{scope_, {}};
      Value text = capture(statement.body, scope);
      if (statement.value) {
        const Value* const outer = std::exchange(filtered_, &text);
        Value changed = evaluate(*statement.value);
        filtered_ = outer;
        text = std::move(changed);
      }
      if (statement.kind == Kind::filter_block) {
        print(to_text(text));
      } else {
        assign(statement, std::move(text));
      }
      return Flow::normal;
    }
    case Kind::call_block: {
      callers_.push_back({&statement, scope_});
      const Expression& target = *statement.value;
      Arguments given = arguments(target);
      given.named.emplace_back("caller", MacroRef{&statement});
      print(to_text(call(evaluate(*target.children[0]), given)));
      callers_.pop_back();
      return Flow::normal;
    }
  }
  return Flow::normal;
}

void Renderer::bind(const Statement& statement, const Value& value, Scope& scope) {
  if (!statement.unpack) {
    scope.names[statement.targets[0]] = value;
    return;
  }
  const auto parts = iterate(value);
  if (parts->items.size() != statement.targets.size()) {
    throw Failure("cannot unpack " + std::to_string(parts->items.size()) + " values into " +
                  std::to_string(statement.targets.size()));
  }
  for (size_t i = 0; i < parts->items.size(); ++i) scope.names[statement.targets[i]] = parts->items[i];
}

void Renderer::assign(const Statement& statement, Value value) {
  if (statement.attribute.empty()) return bind(statement, value, *scope_);
  const Value target = lookup(statement.targets[0]);
  const auto* space = target.as<Namespace*>();
  if (space == nullptr)
    throw Failure("attributes can only be set on a namespace, not on " + type_name(target));
  if (statement.attribute.starts_with("_")) throw Failure("a namespace attribute must not begin with '_'");
  // A loop could hide any depth behind its list; nothing needs one to outlive itself.
  if (value.as<std::shared_ptr<LoopBody>>() != nullptr)
    throw Failure("'loop' cannot be stored in a namespace");
  auto& items = (*space)->items;
  const auto found = std::ranges::find(items, statement.attribute, &std::pair<std::string, Value>::first);
  if (found != items.end()) {
    found->second = std::move(value);
  } else {
    items.emplace_back(statement.attribute, std::move(value));
  }
}

Renderer::Flow Renderer::run_branch(const Statement& statement) {
  for (const auto& [condition, block] : statement.branches) {
    if (condition == nullptr || evaluate(*condition).truth()) return run(block);
  }
  return Flow::normal;
}

Renderer::Flow Renderer::run_scope(const Statement& statement) {
  Scope scope{scope_, {}};
  for (size_t i = 0; i < statement.targets.size(); ++i)
    scope.names[statement.targets[i]] = evaluate(*statement.defaults[i]);
  scope_ = &scope;
  const Flow flow = run(statement.body);
  scope_ = scope.parent;
  return flow;
}

Renderer::Flow Renderer::run_loop(const Statement& statement) {
  const Value source = evaluate(*statement.value);
  budget_.charge(source.weight());
  auto list = iterate(source);
  Scope* const outer = scope_;
  if (statement.condition) {
    std::vector<Value> kept;
    for (const Value& item : list->items) {
      Scope scope{outer, {}};
      bind(statement, item, scope);
      scope_ = &scope;
      if (evaluate(*statement.condition).truth()) kept.push_back(item);
      scope_ = outer;
    }
    list = *Value::list(std::move(kept)).as<Value::List>();
  }
  if (list->items.empty()) {
    Scope scope{outer, {}};
    scope_ = &scope;
    const Flow flow = run(statement.otherwise);
    scope_ = outer;
    return flow;
  }
  auto state = std::make_shared<LoopBody>();
  state->items = list;
  state->depth = ++loop_depth_;
  for (const Value& item : list->items) {
    budget_.charge(kStepCost);
    Scope scope{outer, {}};
    scope.names["loop"] = state;
    bind(statement, item, scope);
    scope_ = &scope;
    const Flow flow = run(statement.body);
    scope_ = outer;
    if (flow == Flow::break_loop) break;
    ++state->index0;
  }
  --loop_depth_;
  return Flow::normal;
}

Value Renderer::lookup(const std::string& name) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    if (const auto found = scope->names.find(name); found != scope->names.end()) return found->second;
  }
  return Undefined{name};
}

Arguments Renderer::arguments(const Expression& node) {
  Arguments given;
  for (const auto& argument : node.arguments) given.positional.push_back(evaluate(*argument));
  for (const auto& [key, argument] : node.keywords) given.named.emplace_back(key, evaluate(*argument));
  return given;
}

Value Renderer::evaluate(const Expression& node) {
  const Deeper deeper(*this);
  line_ = node.line;
  budget_.charge(kStepCost);
  const auto child = [&](size_t i) { return evaluate(*node.children[i]); };
  switch (node.op) {
    case Op::constant:
      return node.value;
    case Op::name:
      return lookup(node.text);
    case Op::list:
    case Op::tuple:
    case Op::dict:
      return evaluate_container(node);
    case Op::attribute:
      return get_attribute(child(0), node.text);
    case Op::subscript: {
      const Value object = child(0);
      return get_item(object, child(1), budget_);
    }
    case Op::slice:
      return evaluate_slice(node);
    case Op::call:
      return evaluate_call(node);
    case Op::filter:
      return evaluate_filter(node);
    case Op::test: {
      const Value value = child(0);
      return apply_test(node.text, value, arguments(node), budget_);
    }
    case Op::negate:
      return arithmetic("-", int64_t{0}, child(0), budget_);
    case Op::plus:
      return arithmetic("+", int64_t{0}, child(0), budget_);
    case Op::logical_not:
      return !child(0).truth();
    case Op::logical_and:
    case Op::logical_or: {
      Value left = child(0);
      return left.truth() == (node.op == Op::logical_or) ? left : child(1);
    }
    case Op::condition:
      if (child(1).truth()) return child(0);
      return node.children[2] ? child(2) : Value(Undefined{"an if without else"});
    case Op::compare:
      return evaluate_compare(node);
    case Op::binary: {
      const Value left = child(0);
      return arithmetic(node.text, left, child(1), budget_);
    }
  }
  return {};
}

Value Renderer::evaluate_container(const Expression& node) {
  std::vector<Value> items;
  for (const auto& part : node.children) {
    items.push_back(evaluate(*part));
    budget_.charge(items.back().weight());
  }
  if (node.op != Op::dict) return Value::list(std::move(items), node.op == Op::tuple);
  std::vector<std::pair<Value, Value>> pairs;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    budget_.charge(static_cast<int64_t>(pairs.size()));
    const auto same =
        std::ranges::find_if(pairs, [&](const auto& pair) { return equal(pair.first, items[i]); });
    if (same != pairs.end()) {
      same->second = items[i + 1];
    } else {
      pairs.emplace_back(items[i], items[i + 1]);
    }
  }
  return Value::dict(std::move(pairs));
}

Value Renderer::evaluate_compare(const Expression& node) {
  Value left = evaluate(*node.children[0]);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    Value right = evaluate(*node.children[i + 1]);
    if (!compare(node.operators[i], left, right, budget_)) return false;
    left = std::move(right);
  }
  return true;
}

Value Renderer::evaluate_slice(const Expression& node) {
  const Value object = evaluate(*node.children[0]);
  if (object.is_undefined()) throw Failure(type_name(object) + " has no items");
  budget_.charge(object.weight());
  const auto list = iterate(object);
  const auto size = static_cast<int64_t>(list->items.size());
  const auto part = [&](size_t i, int64_t fallback) {
    if (!node.children[i]) return fallback;
    const Value value = evaluate(*node.children[i]);
    int64_t number = fallback;
    if (!value.is_none() && value.integer(number) == nullptr) throw Failure("a slice needs integers");
    return number;
  };
  const int64_t step = part(3, 1);
  if (step == 0) throw Failure("a slice step of 0");
  const auto bound = [&](size_t i, int64_t fallback) {
    const int64_t number = part(i, INT64_MAX);
    if (number == INT64_MAX && (!node.children[i] || step < 0)) return fallback;
    const int64_t at = number < 0 ? std::max(number, -size - 1) + size : std::min(number, size);
    return step > 0 ? std::max<int64_t>(at, 0) : std::clamp<int64_t>(at, -1, size - 1);
  };
  const int64_t begin = bound(1, step > 0 ? 0 : size - 1), end = bound(2, step > 0 ? size : -1);
  std::vector<Value> items;
  std::string text;
  for (int64_t at = begin; step > 0 ? at < end : at > end;) {
    const Value& item = list->items[static_cast<size_t>(at)];
    if (object.text() != nullptr) {
      text += *item.text();
    } else {
      items.push_back(item);
    }
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return object.text() != nullptr
             ? Value(std::move(text))
             : Value::list(std::move(items), object.items() != nullptr && object.items()->tuple);
}

Value Renderer::evaluate_filter(const Expression& node) {
  Value value;
  if (!node.children.empty()) {
    value = evaluate(*node.children[0]);
  } else if (filtered_ != nullptr) {
    value = *filtered_;
  }
  return apply_filter(node.text, value, arguments(node), budget_);
}

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
