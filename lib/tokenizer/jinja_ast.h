// A parsed chat template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/tokenizer/jinja_value.h"

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
  binary,     // text: + - * / // % ** ~
};

struct Expression {
  Op op;
  int line;
  int depth = 1;
  std::string text;
  Value value;
  std::vector<ExpressionPtr> children;
  std::vector<std::string> operators;
  // Arguments of call, filter and test.
  std::vector<ExpressionPtr> arguments;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
};

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
  call_block,
  filter_block,
  scope,
  break_loop,
  continue_loop
};

struct Statement {
  Kind kind;
  int line;
  std::string text;                     // text to print; name of a macro
  std::vector<std::string> targets;     // names that a loop or an assignment sets, or parameters of a macro
  bool unpack = false;                  // targets is a tuple
  std::string attribute;                // set targets[0].attribute = ...
  ExpressionPtr value;                  // printed, assigned, iterated over, filtered with or called
  ExpressionPtr condition;              // `for x in y if condition`
  std::vector<ExpressionPtr> defaults;  // of a macro's last parameters; values of a `with`
  std::vector<std::pair<ExpressionPtr, Block>> branches;  // if, elif, ...; a null condition is else
  Block body;
  Block otherwise;  // of a loop without items
};

}  // namespace qwb::jinja
