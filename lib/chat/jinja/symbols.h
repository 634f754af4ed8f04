// The variables that a part of a template (jinja2 says frame) knows, while names are resolved.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "lib/chat/jinja/ast.h"

namespace qwb::jinja {

// Variables live in functions: the template, each macro and call block, each recursive loop, each
// condition of a loop.
struct FunctionScope {
  FunctionScope* outer = nullptr;
  int slots = 0;
  std::map<std::string, int> slot_of;  // by "level name"
};

class Symbols {
 public:
  Symbols(const Symbols* parent, FunctionScope* function)
      : parent_(parent), function_(function), level_(parent != nullptr ? parent->level_ + 1 : 0) {}

  void store(const std::string& name);
  void declare_parameter(const std::string& name);  // of a macro or call block
  void declare_item(const std::string& name);       // of a loop or `with`
  void load(const std::string& name);
  // The branches of an `if` were visited on copies of this.
  void update_from(const std::vector<Symbols>& branches);
  // Where a name's variable is, seen from this frame. Throws if it was never seen.
  Place place(const std::string& name) const;
  // The initial states of the frame's variables.
  Loads loads() const;
  FunctionScope* function() const { return function_; }
  size_t size() const { return refs_.size(); }

 private:
  enum class From { parameter, item, context, outer, nothing };
  const Symbols* owner(const std::string& name) const;  // null: unknown
  void define(const std::string& name, From from);
  Place place_of(const Symbols& owner, const std::string& name) const;

  const Symbols* parent_;
  FunctionScope* function_;
  int level_;
  std::map<std::string, From> refs_;
  std::set<std::string> stores_;
};

}  // namespace qwb::jinja
