#include "lib/chat/jinja/renderer.h"

#include <algorithm>

namespace qwb::jinja {
namespace {

constexpr int64_t kMaxOutput = 64 << 20;

}  // namespace

std::string Renderer::render(const Template& made, const Value& variables) {
  for (const char* name : {"range", "dict", "lipsum", "cycler", "joiner", "namespace",
                           "raise_exception", "strftime_now", "self"})
    context_[name] = Builtin{name};
  for (const auto& [key, value] : variables.dict_body()->items) context_[*key.text()] = value;
  Activation root;
  root.kept = true;
  root.slots.resize(static_cast<size_t>(made.slots));
  here_ = &root;
  enter(made.loads);
  run(made.body);
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

std::string Renderer::captured(const Block& block, Flow& flow) {
  std::string text;
  std::string* const out = std::exchange(out_, &text);
  flow = run(block);
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
    case Kind::print:
      for (const auto& part : statement.defaults) {
        const Value value = evaluate(*part);
        budget_.charge(value.weight());
        print(to_text(value));
      }
      return Flow::normal;
    case Kind::loop: {
      const Value source = evaluate(*statement.value);
      budget_.charge(source.weight());
      if (!statement.recursive) return run_loop(statement, source, 0);
      keep(here_);
      print(in_function(statement.slots, here_, [&] { run_loop(statement, source, 0); }));
      return Flow::normal;
    }
    case Kind::branch:
      return run_branch(statement);
    case Kind::assign:
      assign(statement.target, evaluate(*statement.value));
      return Flow::normal;
    case Kind::macro:
      slot(statement.target.place) = macro_here(statement);
      return Flow::normal;
    case Kind::assign_block:
    case Kind::filter_block:
    case Kind::scope:
      return run_inner(statement);
    case Kind::break_loop:
      return Flow::break_loop;
    case Kind::continue_loop:
      return Flow::continue_loop;
    case Kind::call_block:
      run_call_block(statement);
      return Flow::normal;
  }
  return Flow::normal;
}

void Renderer::run_call_block(const Statement& statement) {
  const MacroRef caller = macro_here(statement);
  if (!statement.value) return print(to_text(call_macro(caller, {})));
  const Expression& target = *statement.value;
  const Value callee = evaluate(*target.children[0]);
  Arguments given = arguments(target);
  if (std::ranges::any_of(given.named, [](const auto& named) { return named.first == "caller"; }))
    throw Failure("the argument 'caller' is given twice");
  given.named.emplace_back("caller", caller);
  print(to_text(call(callee, given)));
}

// Set blocks, filter blocks and `with`. A block that a `break` leaves is neither assigned nor
// printed.
Renderer::Flow Renderer::run_inner(const Statement& statement) {
  enter(statement.loads);
  Flow flow = Flow::normal;
  if (statement.kind == Kind::scope) {
    for (size_t i = 0; i < statement.targets.size(); ++i)
      assign(statement.targets[i], evaluate(*statement.defaults[i]));
    flow = run(statement.body);
    if (flow == Flow::normal) leave(statement.loads);
    return flow;
  }
  Value text = captured(statement.body, flow);
  if (flow != Flow::normal) return flow;
  if (statement.value) {
    const Value* const outer = std::exchange(filtered_, &text);
    Value changed = evaluate(*statement.value);
    filtered_ = outer;
    text = std::move(changed);
  }
  if (statement.kind == Kind::filter_block) {
    print(to_text(text));
  } else {
    assign(statement.target, text);
  }
  leave(statement.loads);
  return Flow::normal;
}

Renderer::Flow Renderer::run_branch(const Statement& statement) {
  for (const auto& [condition, block] : statement.branches) {
    if (condition == nullptr || evaluate(*condition).truth()) return run(block);
  }
  return Flow::normal;
}

// The items of a loop that pass its condition, which is evaluated as they are drawn.
std::function<bool(Value&)> Renderer::filtered(const Statement& loop,
                                               std::function<bool(Value&)> next) {
  auto inside = std::make_shared<Activation>();
  inside->outer = here_;
  inside->slots.resize(static_cast<size_t>(loop.condition_slots));
  return [this, &loop, next = std::move(next), inside, begun = false](Value& out) mutable {
    Activation* const before = std::exchange(here_, inside.get());
    if (!begun) enter(loop.condition_loads);
    begun = true;
    bool found = false;
    while (!found && next(out)) {
      budget_.charge(kStepCost);
      assign(loop.condition_target, out);
      found = evaluate(*loop.condition).truth();
    }
    here_ = before;
    return found;
  };
}

Renderer::Flow Renderer::run_otherwise(const Statement& statement) {
  enter(statement.otherwise_loads);
  const Flow flow = run(statement.otherwise);
  if (flow == Flow::normal) leave(statement.otherwise_loads);
  return flow;
}

Renderer::Flow Renderer::run_loop(const Statement& statement, const Value& source, int64_t depth) {
  auto state = std::make_shared<LoopBody>();
  state->source = statement.condition ? Value(Value::iterator(source.depth(), nullptr)) : source;
  state->next = iterate_once(source);
  if (statement.condition) state->next = filtered(statement, std::move(state->next));
  state->depth0 = depth;
  if (statement.recursive) {
    state->recursive = &statement;
    state->outer = here_->outer;
  }
  // As in Jinja's code, `continue` in every round leaves a loop that counts as one without items.
  bool finished_one = false;
  while (state->advance()) {
    budget_.charge(4 * kStepCost);
    assign(statement.target, *state->current);
    if (statement.loop_slot >= 0) here_->slots[statement.loop_slot] = Value(state);
    enter(statement.loads);
    const Flow flow = run(statement.body);
    if (flow == Flow::break_loop) break;
    finished_one = finished_one || flow == Flow::normal;
  }
  leave(statement.loads);
  // References to the loop that remain must not draw from a source that is gone.
  state->next = [](Value&) -> bool {
    throw Unsupported("'loop' outside of its loop is not supported");
  };
  if (finished_one || statement.otherwise.empty()) return Flow::normal;
  return run_otherwise(statement);
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
      return evaluate_name(node);
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
    case Op::call: {
      const Value callee = child(0);
      return call(callee, arguments(node));
    }
    case Op::filter:
      return evaluate_filter(node);
    case Op::test: {
      const Value value = child(0);
      return apply_test(node.text, value, arguments(node), budget_);
    }
    case Op::negate:
      return negate(child(0), true);
    case Op::plus:
      return negate(child(0), false);
    case Op::logical_not:
      return !child(0).truth();
    case Op::logical_and:
    case Op::logical_or:
      return evaluate_logic(node);
    case Op::condition:
      if (child(1).truth()) return child(0);
      return node.children[2] ? child(2) : Value(Undefined{"an if without else"});
    case Op::compare:
      return evaluate_compare(node);
    case Op::binary: {
      const Value left = child(0);
      return arithmetic(node.text, left, child(1), budget_);
    }
    case Op::concat: {
      const Value left = child(0), right = child(1);
      budget_.charge(left.weight() + right.weight());
      return to_text(left) + to_text(right);
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
    set_item(pairs, items[i], items[i + 1]);
  }
  return Value::dict(std::move(pairs));
}

Value Renderer::evaluate_name(const Expression& node) {
  const auto& variable = slot(node.place);
  if (!variable && node.place.item)
    throw Unsupported("'" + node.text + "' outside of its loop is not supported");
  return variable ? *variable : Value(Undefined{node.text});
}

Value Renderer::evaluate_logic(const Expression& node) {
  Value left = evaluate(*node.children[0]);
  return left.truth() == (node.op == Op::logical_or) ? left : evaluate(*node.children[1]);
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
  std::optional<Value> parts[3];
  for (size_t i = 0; i < 3; ++i) {
    if (node.children[i + 1]) parts[i] = evaluate(*node.children[i + 1]);
  }
  const auto part = [&](size_t i) { return parts[i] ? &*parts[i] : nullptr; };
  return get_slice(object, part(0), part(1), part(2), budget_);
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
