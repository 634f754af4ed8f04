#include "lib/tokenizer/jinja_renderer.h"

#include <algorithm>

namespace qwb::jinja {
namespace {

constexpr int64_t kMaxOutput = 64 << 20;

}  // namespace

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

}  // namespace qwb::jinja
