// A chat template as tokens, with Jinja's trim_blocks and lstrip_blocks on, as transformers sets
// them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qwb::jinja {

enum class TokenKind {
  text,
  print_begin,
  print_end,
  block_begin,
  block_end,
  name,
  integer,
  real,
  string,
  symbol,
  end
};

struct Token {
  TokenKind kind;
  std::string text;  // text, name, digits, the unescaped string, or the symbol
  int line;
};

// Throws Failure with `line` set on unbalanced or unknown characters. The last token is `end`.
std::vector<Token> tokenize(std::string_view source, int& line);

}  // namespace qwb::jinja
