#include "lib/tokenizer/jinja_parser.h"

#include "lib/tokenizer/jinja_expression_parser.h"

namespace qwb::jinja {
namespace {

constexpr int kMaxBlocks = 50;  // nesting of statements

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;
  Block parse();

 private:
  using StatementPtr = std::unique_ptr<Statement>;
  // Statements until one of the tags `ends` (left unread, the block just opened), or the end of the template
  // if there are none.
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
  void parse_targets(Statement& statement);
  void parse_parameters(Statement& statement);
  void end_tag() {
    if (next().kind != TokenKind::block_end) throw Failure("a tag has something left over at its end");
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
  int loops_ = 0;
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
      block.back()->value = parse_tuple();
      if (next().kind != TokenKind::print_end)
        throw Failure("an expression has something left over at its end");
    } else if (token.kind == TokenKind::block_begin) {
      if (peek().kind == TokenKind::name && std::ranges::find(ends, peek().text) != ends.end()) break;
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
  if (tag == "break" || tag == "continue") {
    if (loops_ == 0) throw Failure("'" + tag + "' outside of a loop");
    auto made = statement(tag == "break" ? Kind::break_loop : Kind::continue_loop);
    end_tag();
    return made;
  }
  throw Failure("the tag '" + tag + "' is not known here");
}

// a | a, b | (a, b)
void Parser::parse_targets(Statement& made) {
  const bool parentheses = accept_symbol("(");
  made.targets.push_back(expect_name());
  made.unpack = parentheses;
  while (accept_symbol(",")) {
    made.unpack = true;
    if (peek().kind != TokenKind::name || is_name("in")) break;
    made.targets.push_back(expect_name());
  }
  if (parentheses) expect_symbol(")");
}

std::unique_ptr<Statement> Parser::parse_for() {
  auto made = statement(Kind::loop);
  parse_targets(*made);
  if (!accept_name("in")) throw Failure("expected 'in'");
  made->value = parse_tuple(false);
  if (accept_name("if")) made->condition = parse_expression();
  if (is_name("recursive")) throw Failure("recursive loops are not supported");
  end_tag();
  ++loops_;
  made->body = parse_block({"else", "endfor"});
  --loops_;
  if (accept_name("else")) {
    end_tag();
    made->otherwise = parse_block({"endfor"});
  }
  close("endfor");
  return made;
}

std::unique_ptr<Statement> Parser::parse_if() {
  auto made = statement(Kind::branch);
  ExpressionPtr condition = parse_tuple(false);
  for (bool last = false;;) {
    end_tag();
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
  parse_targets(*made);
  if (accept_symbol(".")) {
    if (made->targets.size() != 1) throw Failure("only one attribute can be set at a time");
    made->attribute = expect_name();
  }
  if (accept_symbol("=")) {
    made->value = parse_tuple();
    end_tag();
    return made;
  }
  made->kind = Kind::assign_block;
  if (made->unpack) throw Failure("a set block has one target");
  while (accept_symbol("|")) made->value = parse_filter(std::move(made->value));
  end_tag();
  made->body = parse_block({"endset"});
  close("endset");
  return made;
}

void Parser::parse_parameters(Statement& made) {
  expect_symbol("(");
  while (!accept_symbol(")")) {
    made.targets.push_back(expect_name());
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
  made->text = expect_name();
  parse_parameters(*made);
  end_tag();
  const int loops = std::exchange(loops_, 0);
  made->body = parse_block({"endmacro"});
  loops_ = loops;
  close("endmacro");
  return made;
}

std::unique_ptr<Statement> Parser::parse_call() {
  auto made = statement(Kind::call_block);
  if (is_symbol("(")) parse_parameters(*made);
  made->value = parse_expression();
  if (made->value->op != Op::call) throw Failure("a call block needs a call");
  end_tag();
  const int loops = std::exchange(loops_, 0);
  made->body = parse_block({"endcall"});
  loops_ = loops;
  close("endcall");
  return made;
}

std::unique_ptr<Statement> Parser::parse_filter_block() {
  auto made = statement(Kind::filter_block);
  made->value = parse_filter(nullptr);
  while (accept_symbol("|")) made->value = parse_filter(std::move(made->value));
  end_tag();
  made->body = parse_block({"endfilter"});
  close("endfilter");
  return made;
}

std::unique_ptr<Statement> Parser::parse_with() {
  auto made = statement(Kind::scope);
  while (peek().kind != TokenKind::block_end) {
    made->targets.push_back(expect_name());
    expect_symbol("=");
    made->defaults.push_back(parse_expression());
    if (peek().kind != TokenKind::block_end) expect_symbol(",");
  }
  end_tag();
  made->body = parse_block({"endwith"});
  close("endwith");
  return made;
}

// {% generation %} marks what the assistant says, for training; rendering only prints it.
std::unique_ptr<Statement> Parser::parse_generation() {
  auto made = statement(Kind::scope);
  end_tag();
  made->body = parse_block({"endgeneration"});
  close("endgeneration");
  return made;
}

}  // namespace

Block parse_template(std::string_view source, int& line) {
  return Parser(tokenize(source, line), line).parse();
}

}  // namespace qwb::jinja
