// A parsed chat template. jinja_scopes.h says which variable each name is.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/chat/jinja/value.h"

namespace qwb::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class Op {
  constant,     // value
  name,         // text
  list,         // children
  tuple,        // children
  dict,         // children: key, value, key, value...
  attribute,    // child . text
  subscript,    // child [ child ]
  slice,        // child [ child : child : child ], absent parts are null
  call,         // child ( arguments )
  filter,       // child | text ( arguments ); no child in a filter block
  test,         // child is text ( arguments )
  negate,       // - child
  plus,         // + child
  logical_not,  // not child
  logical_and,
  logical_or,
  condition,  // child 0 if child 1 else child 2 (may be null)
  compare,    // children compared in a row; operators has one item less
  binary,     // text: + - * / // % **
  concat,     // child ~ child
};

// The place of a variable: the number of functions outwards, and its slot there.
struct Place {
  int hops = 0, slot = -1;
  bool item = false;  // of a loop or a `with`, which always has a value inside
};

struct Expression {
  Op op;
  int line;
  int depth = 1;
  std::string text;
  Value value;
  Place place;  // of a name
  std::vector<ExpressionPtr> children;
  std::vector<std::string> operators;
  // Arguments of call, filter and test.
  std::vector<ExpressionPtr> arguments;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  ExpressionPtr more_arguments, more_keywords;  // *a, **k
};

// The target of an assignment: a name, a namespace's attribute, or a tuple of targets.
struct Target {
  int line = 0;
  std::string name, attribute;
  Place place;
  bool tuple = false;
  std::vector<Target> parts;
};

// The initial state of a variable where the part of the template that it belongs to begins.
struct Load {
  enum class From {
    context,
    other,
    nothing,
    caller
  };  // caller: the parameters, which are set already
  Place place, other;
  From from = From::nothing;
  std::string name;
};
using Loads = std::vector<Load>;

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

enum class Kind {
  text,
  print,
  loop,
  branch,
  assign,
  assign_block,
  macro,
  call_block,  // no value: {% generation %}, which only prints its body
  filter_block,
  scope,
  break_loop,
  continue_loop
};

struct Statement {
  Kind kind;
  int line;
  std::string text;                     // text to print; name of a macro
  Target target;                        // of a loop, an assignment, a macro
  std::vector<std::string> parameters;  // of a macro or call block
  std::vector<Target> targets;          // of a `with`
  ExpressionPtr value;                  // assigned, iterated over, filtered with or called
  ExpressionPtr condition;              // `for x in y if condition`
  std::vector<ExpressionPtr>
      defaults;  // of a macro's last parameters; values of a `with` or a print
  std::vector<std::pair<ExpressionPtr, Block>> branches;  // if, elif, ...; a null condition is else
  Block body;
  Block otherwise;  // of a loop without items
  bool recursive = false;

  // Filled by resolve_names().
  Loads loads, otherwise_loads, condition_loads;
  Target condition_target;  // the loop's target as its condition sees it
  int slots = 0,
      condition_slots =
          0;  // variables of the function that this begins: macro, call block, recursive loop
  std::vector<int> parameter_slots;
  int caller_slot = -1, kwargs_slot = -1, varargs_slot = -1, loop_slot = -1;  // -1: not used
  bool takes_caller = false, takes_kwargs = false, takes_varargs = false;
};

struct Template {
  Block body;
  Loads loads;
  int slots = 0;
};

}  // namespace qwb::jinja
