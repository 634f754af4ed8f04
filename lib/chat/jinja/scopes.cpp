#include "lib/chat/jinja/scopes.h"

#include <algorithm>
#include <deque>

#include "lib/chat/jinja/builtins.h"
#include "lib/chat/jinja/symbols.h"

namespace qwb::jinja {
namespace {

// Calls use(expression) for every name in an expression.
template <class Use>
void each_name(const Expression* node, const Use& use) {
  if (node == nullptr) return;
  if (node->op == Op::name) use(*node);
  for (const auto& child : node->children) each_name(child.get(), use);
  for (const auto& argument : node->arguments) each_name(argument.get(), use);
  for (const auto& keyword : node->keywords) each_name(keyword.second.get(), use);
  each_name(node->more_arguments.get(), use);
  each_name(node->more_keywords.get(), use);
}

template <class Use>
void each_target(const Target& target, const Use& use) {
  if (!target.tuple) use(target);
  for (const Target& part : target.parts) each_target(part, use);
}

// Which of `names` a body reads before it sets them, in the order in which Jinja walks: its answer
// decides whether a macro has a caller and a loop its `loop`.
class Undeclared {
 public:
  explicit Undeclared(std::set<std::string> names) : wanted_(std::move(names)) {}
  void visit(const Block& block) {
    for (const auto& statement : block) visit(*statement);
  }
  bool has(const std::string& name) const { return found_.contains(name); }

 private:
  void read(const Expression* node) {
    each_name(node, [&](const Expression& name) {
      if (wanted_.contains(name.text)) found_.insert(name.text);
    });
  }
  void write(const Target& target) {
    each_target(target, [&](const Target& name) {
      if (name.attribute.empty()) wanted_.erase(name.name);
    });
  }
  void visit(const Statement& s) {
    if (s.kind == Kind::loop || s.kind == Kind::assign || s.kind == Kind::assign_block)
      write(s.target);
    if (s.kind != Kind::filter_block) read(s.value.get());
    for (const std::string& name : s.parameters) wanted_.erase(name);
    for (const Target& target : s.targets) write(target);
    for (const auto& value : s.defaults) read(value.get());
    for (const auto& [condition, block] : s.branches) {
      read(condition.get());
      visit(block);
    }
    visit(s.body);
    visit(s.otherwise);
    read(s.condition.get());
    if (s.kind == Kind::filter_block) read(s.value.get());
  }
  std::set<std::string> wanted_, found_;
};

class Resolver {
 public:
  explicit Resolver(int& line) : line_(line) {}

  void run(Template& made) {
    FunctionScope& function = functions_.emplace_back();
    Symbols root(nullptr, &function);
    analyze(root, made.body);
    Frame frame{&root};
    resolve(made.body, frame);
    made.loads = root.loads();
    made.slots = function.slots;
  }

 private:
  struct Frame {
    Symbols* symbols;
    bool soft = false;  // inside `if`: an unknown filter fails when it is used
    int loops = 0;      // that break and continue can leave
  };

  // The names that a frame's own statements read and set; the frames inside it are visited later.
  void read(Symbols& symbols, const Expression* node) {
    each_name(node, [&](const Expression& name) { symbols.load(name.text); });
  }
  static void write(Symbols& symbols, const Target& target) {
    each_target(target, [&](const Target& name) {
      if (name.attribute.empty()) {
        symbols.store(name.name);
      } else {
        symbols.load(name.name);
      }
    });
  }
  static void declare(Symbols& symbols, const Target& target) {
    each_target(target, [&](const Target& name) { symbols.declare_item(name.name); });
  }
  void analyze(Symbols& symbols, const Block& block) {
    for (const auto& statement : block) analyze(symbols, *statement);
  }
  void analyze(Symbols& symbols, const Statement& s) {
    line_ = s.line;
    switch (s.kind) {
      case Kind::print:
        for (const auto& value : s.defaults) read(symbols, value.get());
        return;
      case Kind::branch:
        return analyze_branches(symbols, s, 0);
      case Kind::macro:
        return symbols.store(s.target.name);
      case Kind::assign:
        read(symbols, s.value.get());
        return write(symbols, s.target);
      case Kind::assign_block:
        return write(symbols, s.target);
      case Kind::loop:
      case Kind::call_block:
      case Kind::filter_block:
        return read(symbols, s.value.get());
      case Kind::scope:
        for (const auto& value : s.defaults) read(symbols, value.get());
        return;
      default:
        return;
    }
  }

  // Jinja visits the first branch, all the elifs and the else on a copy each.
  void analyze_branches(Symbols& symbols, const Statement& s, size_t first) {
    const auto copy = [&] {
      copied_ += static_cast<int64_t>(symbols.size());
      if (copied_ > 20'000'000) throw Failure("the template has too many names");
      return symbols;
    };
    read(symbols, s.branches[first].first.get());
    std::vector<Symbols> branches(3, copy());
    analyze(branches[0], s.branches[first].second);
    for (size_t i = 1; first == 0 && i < s.branches.size(); ++i) {
      if (s.branches[i].first == nullptr) {
        analyze(branches[2], s.branches[i].second);
      } else {
        analyze_branches(branches[1], s, i);
      }
    }
    symbols.update_from(branches);
  }

  void resolve(Target& target, const Frame& frame) {
    if (!target.tuple) target.place = frame.symbols->place(target.name);
    for (Target& part : target.parts) resolve(part, frame);
  }

  void resolve(Expression* node, const Frame& frame) {
    if (node == nullptr) return;
    if (node->op == Op::name) node->place = frame.symbols->place(node->text);
    if (!frame.soft && ((node->op == Op::filter && !is_filter(node->text)) ||
                        (node->op == Op::test && !is_test(node->text)))) {
      line_ = node->line;
      throw Failure("there is no " + std::string(node->op == Op::filter ? "filter" : "test") +
                    " '" + node->text + "'");
    }
    Frame inside = frame;
    inside.soft = frame.soft || node->op == Op::condition;
    for (const auto& child : node->children) resolve(child.get(), inside);
    for (const auto& argument : node->arguments) resolve(argument.get(), inside);
    for (const auto& keyword : node->keywords) resolve(keyword.second.get(), inside);
    resolve(node->more_arguments.get(), inside);
    resolve(node->more_keywords.get(), inside);
  }

  void resolve(Block& block, const Frame& frame) {
    for (const auto& statement : block) resolve(*statement, frame);
  }

  void resolve(Statement& s, const Frame& frame) {
    line_ = s.line;
    switch (s.kind) {
      case Kind::text:
        return;
      case Kind::print:
        for (const auto& value : s.defaults) resolve(value.get(), frame);
        return;
      case Kind::assign:
        resolve(s.value.get(), frame);
        return resolve(s.target, frame);
      case Kind::branch: {
        Frame soft = frame;
        soft.soft = true;
        for (auto& [condition, block] : s.branches) {
          resolve(condition.get(), soft);
          resolve(block, soft);
        }
        return;
      }
      case Kind::loop:
        return resolve_loop(s, frame);
      case Kind::macro:
        resolve_function(s, frame);
        return resolve(s.target, frame);
      case Kind::call_block:
        resolve_function(s, frame);
        return resolve(s.value.get(), frame);
      case Kind::assign_block:
      case Kind::filter_block:
      case Kind::scope:
        return resolve_inner(s, frame);
      case Kind::break_loop:
      case Kind::continue_loop:
        if (frame.loops == 0)
          throw Failure(std::string(s.kind == Kind::break_loop ? "'break'" : "'continue'") +
                        " outside of a loop");
        return;
    }
  }

  // Set blocks, filter blocks and `with`.
  void resolve_inner(Statement& s, const Frame& frame) {
    Symbols inner(frame.symbols, frame.symbols->function());
    for (const Target& target : s.targets) declare(inner, target);
    analyze(inner, s.body);
    if (s.kind == Kind::filter_block) read(inner, s.value.get());
    const Frame inside{&inner, false, frame.loops};
    for (Target& target : s.targets) resolve(target, inside);
    for (const auto& value : s.defaults) resolve(value.get(), frame);
    resolve(s.body, inside);
    resolve(s.value.get(), inside);
    if (s.kind == Kind::assign_block) resolve(s.target, frame);
    s.loads = inner.loads();
  }

  void resolve_function(Statement& s, const Frame& frame) {
    FunctionScope& function = functions_.emplace_back();
    function.outer = frame.symbols->function();
    Symbols inner(frame.symbols, &function);
    for (const std::string& name : s.parameters) inner.declare_parameter(name);
    for (const auto& value : s.defaults) read(inner, value.get());
    analyze(inner, s.body);
    Undeclared undeclared({"caller", "kwargs", "varargs"});
    undeclared.visit(s.body);
    const auto given = [&](const char* name) {
      return std::ranges::find(s.parameters, name) - s.parameters.begin();
    };
    const auto count = static_cast<int64_t>(s.parameters.size());
    const auto special = [&](const char* name, bool& takes, int& slot) {
      if (!undeclared.has(name) || given(name) != count) return;
      inner.declare_parameter(name);
      slot = inner.place(name).slot;
      takes = true;
    };
    if (undeclared.has("caller") && given("caller") != count) {
      if (given("caller") < count - static_cast<int64_t>(s.defaults.size()))
        throw Failure("the parameter 'caller' of a macro needs a default");
      s.takes_caller = true;
    }
    special("caller", s.takes_caller, s.caller_slot);
    special("kwargs", s.takes_kwargs, s.kwargs_slot);
    special("varargs", s.takes_varargs, s.varargs_slot);
    const Frame inside{&inner};
    for (const std::string& name : s.parameters)
      s.parameter_slots.push_back(inner.place(name).slot);
    for (const auto& value : s.defaults) resolve(value.get(), inside);
    resolve(s.body, inside);
    s.loads = inner.loads();
    s.slots = function.slots;
  }

  void resolve_loop(Statement& s, const Frame& frame) {
    FunctionScope* function = frame.symbols->function();
    if (s.recursive) {
      function = &functions_.emplace_back();
      function->outer = frame.symbols->function();
    }
    forbid_loop(s);
    Undeclared undeclared({"loop"});
    undeclared.visit(s.body);
    const bool extended = s.recursive || undeclared.has("loop");
    Symbols inner(frame.symbols, function), otherwise(frame.symbols, function);
    if (extended) inner.declare_item("loop");
    declare(inner, s.target);
    analyze(inner, s.body);
    analyze(otherwise, s.otherwise);
    resolve(s.value.get(), frame);
    if (s.condition) resolve_condition(s, frame, function);
    const Frame inside{&inner, false, s.recursive ? 1 : frame.loops + 1};
    if (extended) s.loop_slot = inner.place("loop").slot;
    resolve(s.target, inside);
    resolve(s.body, inside);
    resolve(s.otherwise, Frame{&otherwise, false, s.recursive ? 0 : frame.loops});
    s.loads = inner.loads();
    s.otherwise_loads = otherwise.loads();
    if (s.recursive) s.slots = function->slots;
  }

  // The condition is a function of its own: it sees its item, and everything else as it is then.
  void resolve_condition(Statement& s, const Frame& frame, FunctionScope* outer) {
    FunctionScope& function = functions_.emplace_back();
    function.outer = outer;
    Symbols inner(frame.symbols, &function);
    declare(inner, s.target);
    read(inner, s.condition.get());
    const Frame inside{&inner};
    s.condition_target = s.target;
    resolve(s.condition_target, inside);
    resolve(s.condition.get(), inside);
    s.condition_loads = inner.loads();
    s.condition_slots = function.slots;
  }

  // Nothing in a loop may set `loop`.
  void forbid_loop(const Statement& s) {
    const auto check = [](const Target& target) {
      each_target(target, [](const Target& name) {
        if (name.name == "loop" && name.attribute.empty())
          throw Failure("'loop' cannot be set in a loop");
      });
    };
    if (s.kind == Kind::loop || s.kind == Kind::assign || s.kind == Kind::assign_block)
      check(s.target);
    for (const auto& inner : s.body) forbid_loop(*inner);
    for (const auto& inner : s.otherwise) forbid_loop(*inner);
    for (const auto& branch : s.branches) {
      for (const auto& inner : branch.second) forbid_loop(*inner);
    }
  }

  int& line_;
  int64_t copied_ = 0;
  std::deque<FunctionScope> functions_;
};

}  // namespace

void resolve_names(Template& made, int& line) {
  Resolver(line).run(made);
}

}  // namespace qwb::jinja
