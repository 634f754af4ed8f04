#include "lib/tokenizer/jinja_lexer.h"

#include <algorithm>
#include <cctype>

#include "lib/tokenizer/jinja_value.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool starts_name(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// Line ends become \n, and one at the very end is dropped.
std::string normalize_lines(std::string_view source) {
  std::string out;
  for (size_t at = 0; at < source.size(); ++at) {
    if (source[at] == '\r') {
      if (at + 1 < source.size() && source[at + 1] == '\n') ++at;
      out += '\n';
    } else {
      out += source[at];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string source, int& line) : source_(std::move(source)), line_(line) { line_ = 1; }
  std::vector<Token> run();

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  char peek(size_t k = 0) const { return at_ + k < source_.size() ? source_[at_ + k] : '\0'; }
  void advance(size_t count) {
    const auto passed = rest().substr(0, count);
    line_ += static_cast<int>(std::ranges::count(passed, '\n'));
    if (!passed.empty()) line_starts_ = passed.back() == '\n';
    at_ += passed.size();
  }
  void skip_spaces() {
    size_t count = 0;
    while (is_space(peek(count)) && at_ + count < source_.size()) ++count;
    advance(count);
  }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  void text_until(size_t tag);
  void after_block_end();
  void comment();
  bool raw_block();
  void expression(std::string_view closing, TokenKind closing_kind);
  void string();
  void number();
  void symbol();
  std::string escaped();

  std::string source_;
  int& line_;
  size_t at_ = 0;
  bool line_starts_ = true;  // what was read last ended a line, or nothing was read yet
  std::vector<Token> tokens_;
};

// Text before the tag at `tag`: "-" takes all white space away, a block tag alone on its line the white space
// before it.
void Lexer::text_until(size_t tag) {
  std::string_view text = std::string_view(source_).substr(at_, tag - at_);
  const bool ends = tag >= source_.size();
  const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
  const int begin_line = line_;
  if (!ends && sign == '-') {
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  } else if (!ends && sign != '+' && source_[tag + 1] != '{') {
    const size_t newline = text.rfind('\n');
    const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    const bool at_line = newline != std::string_view::npos || line_starts_;
    if (at_line && std::ranges::all_of(text.substr(start), is_space)) text = text.substr(0, start);
  }
  if (!text.empty()) tokens_.push_back({TokenKind::text, std::string(text), begin_line});
  advance(tag - at_);
}

void Lexer::after_block_end() {
  if (peek() == '\n') advance(1);
}

void Lexer::comment() {
  const size_t end = source_.find("#}", at_ + 2);
  if (end == std::string::npos) throw Failure("a comment is not closed");
  const char sign = source_[end - 1];
  advance(end + 2 - at_);
  if (sign == '-') return skip_spaces();
  if (sign != '+') after_block_end();
}

// {% raw %} ... {% endraw %}
bool Lexer::raw_block() {
  const auto match = [&](size_t from, std::string_view word, size_t& inner_end, char& sign) {
    size_t k = from + 2;
    if (k < source_.size() && (source_[k] == '-' || source_[k] == '+')) ++k;
    while (k < source_.size() && is_space(source_[k])) ++k;
    if (source_.compare(k, word.size(), word) != 0) return false;
    k += word.size();
    while (k < source_.size() && is_space(source_[k])) ++k;
    sign = '\0';
    if (k < source_.size() && (source_[k] == '-' || source_[k] == '+')) sign = source_[k++];
    if (source_.compare(k, 2, "%}") != 0) return false;
    inner_end = k + 2;
    return true;
  };
  size_t end = 0;
  char sign = 0;
  if (!match(at_, "raw", end, sign)) return false;
  advance(end - at_);
  if (sign == '-') skip_spaces();
  if (sign == '\0') after_block_end();
  for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
    if (!match(tag, "endraw", end, sign)) continue;
    text_until(tag);
    advance(end - at_);
    if (sign == '-') skip_spaces();
    if (sign == '\0') after_block_end();
    return true;
  }
  throw Failure("a raw block is not closed");
}

std::string Lexer::escaped() {
  const char c = peek(1);
  const auto hex = [&](size_t digits) {
    const auto text = rest().substr(2, digits);
    if (text.size() != digits ||
        !std::ranges::all_of(text, [](unsigned char d) { return std::isxdigit(d) != 0; })) {
      throw Failure("a bad escape in a string");
    }
    std::string out;
    const auto point = static_cast<char32_t>(std::stoul(std::string(text), nullptr, 16));
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
      throw Failure("a string escapes what is not a character");
    tokenizer::append_utf8(out, point);
    advance(2 + digits);
    return out;
  };
  if (c == 'x') return hex(2);
  if (c == 'u') return hex(4);
  if (c == 'U') return hex(8);
  constexpr std::string_view kLetters = "ntr\\'\"abfv0", kMeaning{"\n\t\r\\'\"\a\b\f\v\0", 11};
  const size_t found = kLetters.find(c);
  advance(2);
  if (c == '\n') return "";
  return found == std::string_view::npos ? std::string("\\") + c : std::string(1, kMeaning[found]);
}

void Lexer::string() {
  const char quote = peek();
  const int begin_line = line_;
  std::string text;
  advance(1);
  while (peek() != quote) {
    if (at_ >= source_.size()) throw Failure("a string is not closed");
    if (peek() == '\\') {
      text += escaped();
    } else {
      text += peek();
      advance(1);
    }
  }
  advance(1);
  tokens_.push_back({TokenKind::string, std::move(text), begin_line});
}

void Lexer::number() {
  std::string digits;
  bool real = false;
  size_t k = 0;
  const auto take_digits = [&] {
    for (; is_digit(peek(k)) || (peek(k) == '_' && is_digit(peek(k + 1))); ++k) {
      if (peek(k) != '_') digits += peek(k);
    }
  };
  take_digits();
  if (peek(k) == '.' && is_digit(peek(k + 1))) {
    real = true;
    digits += peek(k++);
    take_digits();
  }
  const size_t sign = peek(k + 1) == '-' || peek(k + 1) == '+' ? 1 : 0;
  if ((peek(k) == 'e' || peek(k) == 'E') && is_digit(peek(k + 1 + sign))) {
    real = true;
    digits += 'e';
    if (sign == 1) digits += peek(k + 1);
    k += 1 + sign;
    take_digits();
  }
  add(real ? TokenKind::real : TokenKind::integer, digits);
  advance(k);
}

void Lexer::symbol() {
  for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
    if (rest().starts_with(two)) {
      add(TokenKind::symbol, std::string(two));
      return advance(2);
    }
  }
  if (std::string_view("+-*/%~<>=.,:|()[]{}").find(peek()) == std::string_view::npos || peek() == '\0') {
    throw Failure(std::string("unexpected character '") + peek() + "'");
  }
  add(TokenKind::symbol, std::string(1, peek()));
  advance(1);
}

// The inside of {{ }} or {% %}.
void Lexer::expression(std::string_view closing, TokenKind closing_kind) {
  int nesting = 0;
  for (;;) {
    skip_spaces();
    if (at_ >= source_.size()) throw Failure("'" + std::string(closing) + "' is missing");
    const bool signed_end =
        (peek() == '-' || (peek() == '+' && closing == "%}")) && rest().substr(1).starts_with(closing);
    if (nesting == 0 && (signed_end || rest().starts_with(closing))) {
      const char sign = signed_end ? peek() : '\0';
      add(closing_kind, "");
      advance(signed_end ? 3 : 2);
      if (sign == '-') return skip_spaces();
      if (sign == '\0' && closing == "%}") after_block_end();
      return;
    }
    const char c = peek();
    if (c == '\'' || c == '"') {
      string();
    } else if (is_digit(c)) {
      number();
    } else if (starts_name(c)) {
      size_t k = 0;
      while (starts_name(peek(k)) || is_digit(peek(k))) ++k;
      add(TokenKind::name, std::string(rest().substr(0, k)));
      advance(k);
    } else {
      if (c == '(' || c == '[' || c == '{') ++nesting;
      if (c == ')' || c == ']' || c == '}') --nesting;
      if (nesting < 0) throw Failure(std::string("unexpected '") + c + "'");
      symbol();
    }
  }
}

std::vector<Token> Lexer::run() {
  while (at_ < source_.size()) {
    size_t tag = source_.find('{', at_);
    while (tag != std::string::npos &&
           (tag + 1 >= source_.size() ||
            std::string_view("{%#").find(source_[tag + 1]) == std::string_view::npos)) {
      tag = source_.find('{', tag + 1);
    }
    text_until(std::min(tag, source_.size()));
    if (at_ >= source_.size()) break;
    if (peek(1) == '#') {
      comment();
    } else if (peek(1) == '%' && raw_block()) {
      continue;
    } else {
      const bool block = peek(1) == '%';
      add(block ? TokenKind::block_begin : TokenKind::print_begin, "");
      advance(peek(2) == '-' || (peek(2) == '+' && block) ? 3 : 2);
      expression(block ? "%}" : "}}", block ? TokenKind::block_end : TokenKind::print_end);
    }
  }
  add(TokenKind::end, "");
  return std::move(tokens_);
}

}  // namespace

std::vector<Token> tokenize(std::string_view source, int& line) {
  return Lexer(normalize_lines(source), line).run();
}

}  // namespace qwb::jinja
