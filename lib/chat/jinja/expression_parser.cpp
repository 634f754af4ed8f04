#include "lib/chat/jinja/expression_parser.h"

#include <charconv>

#include "lib/chat/jinja/builtins.h"

namespace qwb::jinja {
namespace {

// Deeper trees are refused, so that neither parsing, evaluating nor freeing one can exhaust the
// stack.
constexpr int kMaxNesting = 60;
constexpr int kMaxTreeDepth = 300;

}  // namespace

Token ExpressionParser::next() {
  Token token = peek();
  line_ = token.line;
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool ExpressionParser::accept_symbol(std::string_view symbol) {
  if (!is_symbol(symbol)) return false;
  next();
  return true;
}

bool ExpressionParser::accept_name(std::string_view name) {
  if (!is_name(name)) return false;
  next();
  return true;
}

void ExpressionParser::expect_symbol(std::string_view symbol) {
  if (!accept_symbol(symbol))
    throw Failure("expected '" + std::string(symbol) + "' before '" + peek().text + "'");
}

std::string ExpressionParser::expect_name() {
  if (peek().kind != TokenKind::name) throw Failure("expected a name before '" + peek().text + "'");
  return next().text;
}

void ExpressionParser::unexpected() const {
  const Token& token = peek();
  throw Failure(token.text.empty() ? "unexpected end of an expression"
                                   : "unexpected '" + token.text + "'");
}

ExpressionPtr ExpressionParser::make(Op op, std::string text) {
  auto node = std::make_unique<Expression>();
  node->op = op;
  node->line = line_;
  node->text = std::move(text);
  return node;
}

void ExpressionParser::adopt(Expression& parent, ExpressionPtr child) {
  if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > kMaxTreeDepth) throw Failure("an expression is too long");
  parent.children.push_back(std::move(child));
}

ExpressionPtr ExpressionParser::parse_expression(bool with_condition) {
  if (++nesting_ > kMaxNesting) throw Failure("expressions are nested too deeply");
  auto node = parse_or();
  while (with_condition && accept_name("if")) {
    auto condition = make(Op::condition);
    adopt(*condition, std::move(node));
    adopt(*condition, parse_or());
    adopt(*condition, accept_name("else") ? parse_expression() : nullptr);
    node = std::move(condition);
  }
  --nesting_;
  return node;
}

ExpressionPtr ExpressionParser::parse_tuple(bool with_condition) {
  auto first = parse_expression(with_condition);
  if (!is_symbol(",")) return first;
  auto tuple = make(Op::tuple);
  adopt(*tuple, std::move(first));
  while (accept_symbol(",")) {
    if (peek().kind == TokenKind::block_end || peek().kind == TokenKind::print_end ||
        is_symbol(")"))
      break;
    adopt(*tuple, parse_expression(with_condition));
  }
  return tuple;
}

ExpressionPtr ExpressionParser::parse_logical(ExpressionPtr (ExpressionParser::*operand)(),
                                              std::string_view word, Op op) {
  auto left = (this->*operand)();
  while (accept_name(word)) {
    auto node = make(op);
    adopt(*node, std::move(left));
    adopt(*node, (this->*operand)());
    left = std::move(node);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_or() {
  return parse_logical(&ExpressionParser::parse_and, "or", Op::logical_or);
}
ExpressionPtr ExpressionParser::parse_and() {
  return parse_logical(&ExpressionParser::parse_not, "and", Op::logical_and);
}

ExpressionPtr ExpressionParser::parse_not() {
  int count = 0;
  while (accept_name("not")) ++count;
  auto node = parse_compare();
  for (; count > 0; --count) {
    auto negated = make(Op::logical_not);
    adopt(*negated, std::move(node));
    node = std::move(negated);
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_compare() {
  auto first = parse_sum();
  ExpressionPtr node;
  for (;;) {
    std::string symbol;
    for (const std::string_view known : {"==", "!=", "<", "<=", ">", ">="}) {
      if (is_symbol(known)) symbol = known;
    }
    if (symbol.empty() && is_name("in")) symbol = "in";
    if (symbol.empty() && is_name("not") && peek(1).kind == TokenKind::name &&
        peek(1).text == "in") {
      next();
      symbol = "not in";
    }
    if (symbol.empty()) break;
    next();
    if (!node) {
      node = make(Op::compare);
      adopt(*node, std::move(first));
    }
    node->operators.push_back(symbol);
    adopt(*node, parse_sum());
  }
  return node ? std::move(node) : std::move(first);
}

ExpressionPtr ExpressionParser::parse_binary(ExpressionPtr (ExpressionParser::*operand)(),
                                             std::initializer_list<std::string_view> symbols) {
  auto left = (this->*operand)();
  while (peek().kind == TokenKind::symbol &&
         std::ranges::find(symbols, peek().text) != symbols.end()) {
    auto node = make(Op::binary, next().text);
    adopt(*node, std::move(left));
    adopt(*node, (this->*operand)());
    left = std::move(node);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_sum() {
  return parse_binary(&ExpressionParser::parse_concat, {"+", "-"});
}
ExpressionPtr ExpressionParser::parse_concat() {
  auto left = parse_product();
  while (accept_symbol("~")) {
    auto node = make(Op::concat);
    adopt(*node, std::move(left));
    adopt(*node, parse_product());
    left = std::move(node);
  }
  return left;
}
ExpressionPtr ExpressionParser::parse_product() {
  return parse_binary(&ExpressionParser::parse_power, {"*", "/", "//", "%"});
}

ExpressionPtr ExpressionParser::parse_power() {
  return parse_binary(&ExpressionParser::parse_filtered, {"**"});
}
ExpressionPtr ExpressionParser::parse_filtered() {
  return parse_unary(true);
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filter) {
  ExpressionPtr node;
  if (is_symbol("-") || is_symbol("+")) {
    if (++nesting_ > kMaxNesting) throw Failure("expressions are nested too deeply");
    node = make(next().text == "-" ? Op::negate : Op::plus);
    adopt(*node, parse_unary(false));
    --nesting_;
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr of) {
  auto call = make(Op::call);
  adopt(*call, std::move(of));
  parse_arguments(*call);
  return call;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr node) {
  for (;;) {
    if (accept_symbol(".")) {
      const Token token = next();
      if (token.kind != TokenKind::name && token.kind != TokenKind::integer)
        throw Failure("expected a name after '.'");
      auto outer = make(token.kind == TokenKind::name ? Op::attribute : Op::subscript, token.text);
      adopt(*outer, std::move(node));
      if (token.kind == TokenKind::integer) adopt(*outer, parse_literal(token));
      node = std::move(outer);
    } else if (is_symbol("[")) {
      node = parse_subscript(std::move(node));
    } else if (is_symbol("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr node) {
  for (;;) {
    if (accept_symbol("|")) {
      node = parse_filter(std::move(node));
    } else if (accept_name("is")) {
      node = parse_test(std::move(node));
    } else if (is_symbol("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr of) {
  auto filter = make(Op::filter, expect_name());
  while (accept_symbol(".")) filter->text += "." + expect_name();
  if (of) adopt(*filter, std::move(of));
  if (is_symbol("(")) parse_arguments(*filter);
  return filter;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr of) {
  const bool negated = accept_name("not");
  auto test = make(Op::test, expect_name());
  while (accept_symbol(".")) test->text += "." + expect_name();
  adopt(*test, std::move(of));
  const TokenKind kind = peek().kind;
  if (is_symbol("(")) {
    parse_arguments(*test);
  } else if ((kind == TokenKind::name && !is_name("else") && !is_name("or") && !is_name("and")) ||
             kind == TokenKind::string || kind == TokenKind::integer || kind == TokenKind::real ||
             is_symbol("[") || is_symbol("{")) {
    if (is_name("is")) throw Failure("tests cannot be chained");
    test->arguments.push_back(parse_postfix(parse_primary()));
    test->depth = std::max(test->depth, test->arguments.back()->depth + 1);
  }
  if (!negated) return test;
  auto node = make(Op::logical_not);
  adopt(*node, std::move(test));
  return node;
}

void ExpressionParser::parse_arguments(Expression& call) {
  expect_symbol("(");
  const auto require = [](bool good) {
    if (!good) throw Failure("the arguments of a call are in a wrong order, or one is given twice");
  };
  const auto parsed = [&] {
    auto argument = parse_expression();
    call.depth = std::max(call.depth, argument->depth + 1);
    if (call.depth > kMaxTreeDepth) throw Failure("an expression is too long");
    return argument;
  };
  for (bool first = true; !accept_symbol(")"); first = false) {
    if (!first) expect_symbol(",");
    if (!first && accept_symbol(")")) break;
    if (accept_symbol("*")) {
      require(!call.more_arguments && !call.more_keywords);
      call.more_arguments = parsed();
    } else if (accept_symbol("**")) {
      require(!call.more_keywords);
      call.more_keywords = parsed();
    } else if (peek().kind == TokenKind::name && peek(1).kind == TokenKind::symbol &&
               peek(1).text == "=") {
      std::string key = next().text;
      next();
      require(!call.more_keywords && std::ranges::find(call.keywords, key, [](const auto& k) {
                                       return k.first;
                                     }) == call.keywords.end());
      call.keywords.emplace_back(std::move(key), parsed());
    } else {
      require(!call.more_arguments && !call.more_keywords && call.keywords.empty());
      call.arguments.push_back(parsed());
    }
  }
}

// One index, several as a tuple, or one slice.
ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr of) {
  expect_symbol("[");
  std::vector<ExpressionPtr> parts;
  bool slice = false;
  size_t indices = 0;
  for (; !accept_symbol("]"); ++indices) {
    if (indices > 0) expect_symbol(",");
    if (slice) throw Unsupported("a slice beside another index is not supported");
    parts.push_back(is_symbol(":") ? nullptr : parse_expression());
    while (accept_symbol(":")) {
      if (parts.size() - indices > 2) throw Failure("a slice has too many parts");
      if (indices > 0) throw Unsupported("a slice beside another index is not supported");
      slice = true;
      parts.push_back(is_symbol(":") || is_symbol("]") || is_symbol(",") ? nullptr
                                                                         : parse_expression());
    }
  }
  auto node = make(slice ? Op::slice : Op::subscript);
  adopt(*node, std::move(of));
  if (!slice && indices != 1) {
    auto tuple = make(Op::tuple);
    for (auto& part : parts) adopt(*tuple, std::move(part));
    adopt(*node, std::move(tuple));
    return node;
  }
  for (auto& part : parts) adopt(*node, std::move(part));
  while (slice && node->children.size() < 4) adopt(*node, nullptr);
  return node;
}

ExpressionPtr ExpressionParser::parse_literal(const Token& token) {
  auto node = make(Op::constant);
  const char *begin = token.text.data(), *end = begin + token.text.size();
  if (token.kind == TokenKind::integer) {
    const auto value = parse_integer(token.text, 0);
    if (!value) throw Failure("the integer " + token.text + " is too large");
    node->value = *value;
  } else {
    double value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc())
      throw Failure("the number " + token.text + " is out of range");
    node->value = value;
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_dict() {
  auto node = make(Op::dict);
  while (!accept_symbol("}")) {
    adopt(*node, parse_expression());
    expect_symbol(":");
    adopt(*node, parse_expression());
    if (!is_symbol("}")) expect_symbol(",");
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token token = peek();
  if (token.kind == TokenKind::name) {
    next();
    auto node = make(Op::constant);
    if (token.text == "true" || token.text == "True" || token.text == "false" ||
        token.text == "False") {
      node->value = token.text[0] == 't' || token.text[0] == 'T';
    } else if (token.text == "none" || token.text == "None") {
      node->value = nullptr;
    } else {
      node->op = Op::name;
      node->text = token.text;
    }
    return node;
  }
  if (token.kind == TokenKind::string) {
    auto node = make(Op::constant);
    std::string text;
    while (peek().kind == TokenKind::string) text += next().text;
    node->value = std::move(text);
    return node;
  }
  if (token.kind == TokenKind::integer || token.kind == TokenKind::real)
    return parse_literal(next());
  if (accept_symbol("(")) {
    if (accept_symbol(")")) return make(Op::tuple);
    auto node = parse_tuple();
    expect_symbol(")");
    return node;
  }
  if (accept_symbol("[")) {
    auto node = make(Op::list);
    while (!accept_symbol("]")) {
      adopt(*node, parse_expression());
      if (!is_symbol("]")) expect_symbol(",");
    }
    return node;
  }
  if (accept_symbol("{")) return parse_dict();
  unexpected();
}

}  // namespace qwb::jinja
