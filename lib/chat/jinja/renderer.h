// Runs a parsed chat template.
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/chat/jinja/ast.h"
#include "lib/chat/jinja/builtins.h"

namespace qwb::jinja {

// The variables of one run of a function (see jinja_symbols.h). Those that a macro was defined in
// live until the end of the rendering.
struct Activation {
  Activation* outer = nullptr;
  bool kept = false;
  std::vector<std::optional<Value>> slots;
};

class Renderer {
 public:
  // `now`: the time that strftime_now() formats.
  explicit Renderer(std::time_t now) : now_(now) {}
  // `variables` is a dict. Throws Failure, with line() at the place.
  std::string render(const Template& made, const Value& variables);
  int line() const { return line_; }

 private:
  enum class Flow { normal, break_loop, continue_loop };
  class Deeper;  // counts recursion
  static constexpr int kMaxRecursion = 1000;
  static constexpr int64_t kStepCost = 32;

  Flow run(const Block& block);
  Flow run(const Statement& statement);
  Flow run_loop(const Statement& statement, const Value& source, int64_t depth);
  Flow run_otherwise(const Statement& statement);
  Flow run_branch(const Statement& statement);
  Flow run_inner(const Statement& statement);
  void run_call_block(const Statement& statement);
  void print(std::string_view text);
  std::string captured(const Block& block, Flow& flow);

  // Variables.
  std::optional<Value>& slot(Place place);
  void enter(const Loads& loads);
  void leave(const Loads& loads);
  void assign(const Target& target, const Value& value);
  void assign_attribute(const Target& target, const Value& value);
  std::function<bool(Value&)> filtered(const Statement& loop, std::function<bool(Value&)> next);
  void keep(Activation* activation);
  MacroRef macro_here(const Statement& statement);
  template <class Use>
  std::string in_function(int slots, Activation* outer, const Use& use);

  Value evaluate(const Expression& node);
  Value evaluate_container(const Expression& node);
  Value evaluate_name(const Expression& node);
  Value evaluate_logic(const Expression& node);
  Value evaluate_compare(const Expression& node);
  Value evaluate_slice(const Expression& node);
  Value evaluate_filter(const Expression& node);
  Arguments arguments(const Expression& node);
  Value call(const Value& callee, const Arguments& given);
  Value call_builtin(const std::string& name, const Arguments& given);
  Value call_macro(const MacroRef& macro, Arguments given);
  std::string call_loop(LoopBody& loop, const Arguments& given);
  Value make_namespace(const Arguments& given);
  std::string strftime_now(const Arguments& given) const;

  std::time_t now_;
  int line_ = 0;
  int depth_ = 0;
  Budget budget_{int64_t{1} << 29};
  std::map<std::string, Value, std::less<>> context_;
  Activation* here_ = nullptr;
  std::vector<std::unique_ptr<Activation>> kept_;
  std::string output_;
  std::string* out_ = &output_;
  const Value* filtered_ = nullptr;  // the text of a filter block or set block
  std::vector<std::unique_ptr<Namespace>> namespaces_;
};

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

// Runs use() with the variables of a new function and gives the text that it printed.
template <class Use>
std::string Renderer::in_function(int slots, Activation* outer, const Use& use) {
  auto made = std::make_unique<Activation>();
  made->outer = outer;
  made->slots.resize(static_cast<size_t>(slots));
  budget_.charge(slots * 16);
  std::string text;
  std::string* const out = std::exchange(out_, &text);
  Activation* const before = std::exchange(here_, made.get());
  use();
  here_ = before;
  out_ = out;
  if (made->kept) kept_.push_back(std::move(made));
  return text;
}

}  // namespace qwb::jinja
