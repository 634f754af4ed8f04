#include "lib/chat/jinja/parser.h"

#include <set>

#include "lib/chat/jinja/expression_parser.h"
#include "lib/chat/jinja/scopes.h"

namespace qwb::jinja {
namespace {

constexpr int kMaxBlocks = 50;  // nesting of statements

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;
  Block parse();

 private:
  using StatementPtr = std::unique_ptr<Statement>;
  // Statements until one of the tags `ends` (left unread, the block just opened), or the end of the
  // template if there are none.
  Block parse_block(std::initializer_list<std::string_view> ends);
  StatementPtr parse_statement();
  StatementPtr parse_for();
  StatementPtr parse_if();
  StatementPtr parse_set();
  StatementPtr parse_macro();
  StatementPtr parse_call();
  StatementPtr parse_filter_block();
  StatementPtr parse_with();
  StatementPtr parse_generation();
  StatementPtr parse_print();
  Target parse_target(bool with_namespace);
  Target parse_target_part(bool with_namespace);
  void parse_parameters(Statement& statement);
  // A tag that begins statements may have a colon, as in Python.
  void begin_body() {
    accept_symbol(":");
    end_tag();
  }
  void end_tag() {
    if (next().kind != TokenKind::block_end)
      throw Failure("a tag has something left over at its end");
  }
  void close(std::string_view name) {
    if (!accept_name(name)) unexpected();
    end_tag();
  }
  StatementPtr statement(Kind kind) {
    auto made = std::make_unique<Statement>();
    made->kind = kind;
    made->line = line_;
    return made;
  }
  int nesting_ = 0;
};

Block Parser::parse() {
  Block block = parse_block({});
  if (peek().kind != TokenKind::end) unexpected();
  return block;
}

Block Parser::parse_block(std::initializer_list<std::string_view> ends) {
  if (++nesting_ > kMaxBlocks) throw Failure("statements are nested too deeply");
  Block block;
  for (;;) {
    const Token token = peek();
    if (token.kind == TokenKind::end) {
      if (ends.size() > 0) throw Failure("'" + std::string(*(ends.end() - 1)) + "' is missing");
      break;
    }
    next();
    if (token.kind == TokenKind::text) {
      block.push_back(statement(Kind::text));
      block.back()->text = token.text;
    } else if (token.kind == TokenKind::print_begin) {
      block.push_back(statement(Kind::print));
      block.back()->defaults.push_back(parse_tuple());
      if (next().kind != TokenKind::print_end)
        throw Failure("an expression has something left over at its end");
    } else if (token.kind == TokenKind::block_begin) {
      if (peek().kind == TokenKind::name && std::ranges::find(ends, peek().text) != ends.end())
        break;
      block.push_back(parse_statement());
    } else {
      unexpected();
    }
  }
  --nesting_;
  return block;
}

std::unique_ptr<Statement> Parser::parse_statement() {
  const std::string tag = expect_name();
  if (tag == "for") return parse_for();
  if (tag == "if") return parse_if();
  if (tag == "set") return parse_set();
  if (tag == "macro") return parse_macro();
  if (tag == "call") return parse_call();
  if (tag == "filter") return parse_filter_block();
  if (tag == "with") return parse_with();
  if (tag == "generation") return parse_generation();
  if (tag == "print") return parse_print();
  if (tag == "break" || tag == "continue") {
    auto made = statement(tag == "break" ? Kind::break_loop : Kind::continue_loop);
    end_tag();
    return made;
  }
  static const std::set<std::string_view> kRefused = {"autoescape", "block",  "extends",
                                                      "from",       "import", "include"};
  if (kRefused.contains(tag)) throw Unsupported("the tag '" + tag + "' is not supported");
  throw Failure("the tag '" + tag + "' is not known here");
}

// a | ns.a | (a, b)
Target Parser::parse_target_part(bool with_namespace) {
  static const std::set<std::string_view> kConstants = {"true",  "false", "True",
                                                        "False", "none",  "None"};
  if (++nesting_ > kMaxBlocks) throw Failure("targets are nested too deeply");
  Target target;
  target.line = line_;
  if (accept_symbol("(")) {
    if (is_symbol(")")) {
      target.tuple = true;
    } else {
      target = parse_target(with_namespace);
    }
    expect_symbol(")");
  } else {
    target.name = expect_name();
    if (kConstants.contains(target.name))
      throw Failure("'" + target.name + "' cannot be assigned to");
    if (with_namespace && accept_symbol(".")) target.attribute = expect_name();
  }
  --nesting_;
  return target;
}

// One of those, or several with commas between them.
Target Parser::parse_target(bool with_namespace) {
  Target first = parse_target_part(with_namespace);
  if (!is_symbol(",")) return first;
  Target tuple;
  tuple.line = first.line;
  tuple.tuple = true;
  tuple.parts.push_back(std::move(first));
  while (accept_symbol(",")) {
    if (is_symbol(")") || peek().kind == TokenKind::block_end) break;
    tuple.parts.push_back(parse_target_part(with_namespace));
  }
  return tuple;
}

std::unique_ptr<Statement> Parser::parse_for() {
  auto made = statement(Kind::loop);
  made->target = parse_target(false);
  if (!accept_name("in")) throw Failure("expected 'in'");
  made->value = parse_tuple(false);
  if (accept_name("if")) made->condition = parse_expression();
  made->recursive = accept_name("recursive");
  begin_body();
  made->body = parse_block({"else", "endfor"});
  if (accept_name("else")) {
    begin_body();
    made->otherwise = parse_block({"endfor"});
  }
  close("endfor");
  return made;
}

// {% print a, b %}
std::unique_ptr<Statement> Parser::parse_print() {
  auto made = statement(Kind::print);
  while (peek().kind != TokenKind::block_end) {
    if (!made->defaults.empty()) expect_symbol(",");
    made->defaults.push_back(parse_expression());
  }
  end_tag();
  return made;
}

std::unique_ptr<Statement> Parser::parse_if() {
  auto made = statement(Kind::branch);
  ExpressionPtr condition = parse_tuple(false);
  for (bool last = false;;) {
    begin_body();
    Block block = last ? parse_block({"endif"}) : parse_block({"elif", "else", "endif"});
    made->branches.emplace_back(std::move(condition), std::move(block));
    if (!last && accept_name("elif")) {
      condition = parse_tuple(false);
    } else if (!last && accept_name("else")) {
      last = true;
    } else {
      break;
    }
  }
  close("endif");
  return made;
}

std::unique_ptr<Statement> Parser::parse_set() {
  auto made = statement(Kind::assign);
  made->target = parse_target(true);
  if (accept_symbol("=")) {
    made->value = parse_tuple();
    end_tag();
    return made;
  }
  made->kind = Kind::assign_block;
  while (accept_symbol("|")) made->value = parse_filter(std::move(made->value));
  begin_body();
  made->body = parse_block({"endset"});
  close("endset");
  return made;
}

void Parser::parse_parameters(Statement& made) {
  expect_symbol("(");
  while (!accept_symbol(")")) {
    made.parameters.push_back(expect_name());
    if (accept_symbol("=")) {
      made.defaults.push_back(parse_expression());
    } else if (!made.defaults.empty()) {
      throw Failure("a parameter without a default follows one with a default");
    }
    if (!is_symbol(")")) expect_symbol(",");
  }
}

std::unique_ptr<Statement> Parser::parse_macro() {
  auto made = statement(Kind::macro);
  made->text = made->target.name = expect_name();
  parse_parameters(*made);
  begin_body();
  made->body = parse_block({"endmacro"});
  close("endmacro");
  return made;
}

std::unique_ptr<Statement> Parser::parse_call() {
  auto made = statement(Kind::call_block);
  if (is_symbol("(")) parse_parameters(*made);
  made->value = parse_expression();
  if (made->value->op != Op::call) throw Failure("a call block needs a call");
  begin_body();
  made->body = parse_block({"endcall"});
  close("endcall");
  return made;
}

std::unique_ptr<Statement> Parser::parse_filter_block() {
  auto made = statement(Kind::filter_block);
  made->value = parse_filter(nullptr);
  while (accept_symbol("|")) made->value = parse_filter(std::move(made->value));
  begin_body();
  made->body = parse_block({"endfilter"});
  close("endfilter");
  return made;
}

std::unique_ptr<Statement> Parser::parse_with() {
  auto made = statement(Kind::scope);
  while (peek().kind != TokenKind::block_end) {
    if (!made->targets.empty()) expect_symbol(",");
    made->targets.push_back(parse_target(false));
    expect_symbol("=");
    made->defaults.push_back(parse_expression());
  }
  begin_body();
  made->body = parse_block({"endwith"});
  close("endwith");
  return made;
}

// {% generation %} marks what the assistant says, for training; rendering only prints it. Its names
// are its own, as in a call block.
std::unique_ptr<Statement> Parser::parse_generation() {
  auto made = statement(Kind::call_block);
  begin_body();
  made->body = parse_block({"endgeneration"});
  close("endgeneration");
  return made;
}

}  // namespace

Template parse_template(std::string_view source, int& line) {
  Template made;
  made.body = Parser(tokenize(source, line), line).parse();
  resolve_names(made, line);
  return made;
}

}  // namespace qwb::jinja
