// The part of the parser that reads expressions; the statement parser builds on it.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "lib/chat/jinja/ast.h"
#include "lib/chat/jinja/lexer.h"

namespace qwb::jinja {

class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, int& line)
      : tokens_(std::move(tokens)), line_(line) {}

 protected:
  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  Token next();
  bool is_symbol(std::string_view symbol) const {
    return peek().kind == TokenKind::symbol && peek().text == symbol;
  }
  bool is_name(std::string_view name) const {
    return peek().kind == TokenKind::name && peek().text == name;
  }
  bool accept_symbol(std::string_view symbol);
  bool accept_name(std::string_view name);
  void expect_symbol(std::string_view symbol);
  std::string expect_name();
  [[noreturn]] void unexpected() const;

  ExpressionPtr parse_expression(bool with_condition = true);
  // a, b, c without parentheses is a tuple.
  ExpressionPtr parse_tuple(bool with_condition = true);
  ExpressionPtr parse_filter(ExpressionPtr of);
  void parse_arguments(Expression& call);
  ExpressionPtr parse_primary();
  ExpressionPtr make(Op op, std::string text = {});
  // Adds a child, keeping track of the depth.
  static void adopt(Expression& parent, ExpressionPtr child);

 private:
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter = true);
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr node);
  ExpressionPtr parse_test(ExpressionPtr of);
  ExpressionPtr parse_subscript(ExpressionPtr of);
  ExpressionPtr parse_literal(const Token& token);
  ExpressionPtr parse_dict();
  ExpressionPtr parse_filtered();
  ExpressionPtr parse_call(ExpressionPtr of);
  ExpressionPtr parse_logical(ExpressionPtr (ExpressionParser::*operand)(), std::string_view word,
                              Op op);
  ExpressionPtr parse_binary(ExpressionPtr (ExpressionParser::*operand)(),
                             std::initializer_list<std::string_view> symbols);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;

 protected:
  int& line_;
};

}  // namespace qwb::jinja
