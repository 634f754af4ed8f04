// Runs a parsed chat template.
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/tokenizer/jinja_ast.h"
#include "lib/tokenizer/jinja_builtins.h"

namespace qwb::jinja {

class Renderer {
 public:
  // `now`: what strftime_now() tells.
  explicit Renderer(std::time_t now) : now_(now) {}
  // `variables` is a dict. Throws Failure, with line() at the place.
  std::string render(const Block& block, const Value& variables);
  int line() const { return line_; }

 private:
  struct Scope {
    Scope* parent = nullptr;
    std::map<std::string, Value, std::less<>> names;
  };
  enum class Flow { normal, break_loop, continue_loop };
  struct Caller {
    const Statement* statement;
    Scope* scope;
  };
  class Deeper;  // counts recursion
  static constexpr int kMaxRecursion = 1000;
  static constexpr int64_t kStepCost = 32;

  Flow run(const Block& block);
  Flow run(const Statement& statement);
  Flow run_loop(const Statement& statement);
  Flow run_branch(const Statement& statement);
  Flow run_scope(const Statement& statement);
  void assign(const Statement& statement, Value value);
  void bind(const Statement& statement, const Value& value, Scope& scope);
  void print(std::string_view text);
  std::string capture(const Block& block, Scope& scope);

  Value evaluate(const Expression& node);
  Value evaluate_container(const Expression& node);
  Value evaluate_call(const Expression& node);
  Value evaluate_compare(const Expression& node);
  Value evaluate_slice(const Expression& node);
  Value evaluate_filter(const Expression& node);
  Value lookup(const std::string& name);
  Arguments arguments(const Expression& node);
  Value call(const Value& callee, const Arguments& given);
  Value call_builtin(const std::string& name, const Arguments& given);
  Value call_macro(const Statement& macro, const Arguments& given);
  std::string strftime_now(const Arguments& given) const;

  std::time_t now_;
  int line_ = 0;
  int depth_ = 0;
  Budget budget_{int64_t{1} << 29};
  Scope root_;
  Scope* scope_ = &root_;
  std::string output_;
  std::string* out_ = &output_;
  int64_t loop_depth_ = 0;
  const Value* filtered_ = nullptr;  // the text of a filter block or set block
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::vector<Caller> callers_;  // of the call blocks under way
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

}  // namespace qwb::jinja
