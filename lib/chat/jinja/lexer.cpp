#include "lib/chat/jinja/lexer.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "lib/chat/jinja/builtins.h"
#include "lib/chat/jinja/unicode.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {
namespace {

bool is_ascii_digit(char c) {
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
  size_t spaces(size_t from) const {
    const std::string_view text = std::string_view(source_).substr(from);
    return text.size() - strip_text(text, nullptr, true, false).size();
  }
  void skip_spaces() { advance(spaces(at_)); }
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
  static std::string character(char32_t point) {
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
      throw Unsupported("a string escapes what is not a character");
    std::string out;
    tokenizer::append_utf8(out, point);
    return out;
  }

  std::string source_;
  int& line_;
  size_t at_ = 0;
  bool line_starts_ = true;  // what was read last ended a line, or nothing was read yet
  std::vector<Token> tokens_;
};

// Text before the tag at `tag`: "-" takes all white space away, a block tag alone on its line the
// white space before it.
void Lexer::text_until(size_t tag) {
  std::string_view text = std::string_view(source_).substr(at_, tag - at_);
  const bool ends = tag >= source_.size();
  const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
  const int begin_line = line_;
  if (!ends && sign == '-') {
    text = strip_text(text, nullptr, false, true);
  } else if (!ends && sign != '+' && source_[tag + 1] != '{') {
    const size_t newline = text.rfind('\n');
    const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    const bool at_line = newline != std::string_view::npos || line_starts_;
    if (at_line && strip_text(text.substr(start), nullptr, true, false).empty())
      text = text.substr(0, start);
  }
  if (!text.empty()) tokens_.push_back({TokenKind::text, std::string(text), begin_line});
  advance(tag - at_);
}

void Lexer::after_block_end() {
  if (peek() == '\n') advance(1);
}

void Lexer::comment() {
  const size_t begin = at_ + (peek(2) == '-' || peek(2) == '+' ? 3 : 2),
               end = source_.find("#}", begin);
  if (end == std::string::npos) throw Failure("a comment is not closed");
  const char sign = end > begin ? source_[end - 1] : '\0';
  advance(end + 2 - at_);
  if (sign == '-') return skip_spaces();
  if (sign != '+') after_block_end();
}

// {% raw %} ... {% endraw %}
bool Lexer::raw_block() {
  const auto match = [&](size_t from, std::string_view word, size_t& inner_end, char& sign) {
    size_t k = from + 2;
    if (k < source_.size() && (source_[k] == '-' || source_[k] == '+')) ++k;
    k += spaces(k);
    if (source_.compare(k, word.size(), word) != 0) return false;
    k += word.size();
    k += spaces(k);
    sign = '\0';
    if (k < source_.size() && (source_[k] == '-' || (source_[k] == '+' && word == "endraw")))
      sign = source_[k++];
    if (source_.compare(k, 2, "%}") != 0) return false;
    inner_end = k + 2;
    return true;
  };
  size_t end = 0;
  char sign = 0;
  if (!match(at_, "raw", end, sign)) return false;
  advance(end - at_);
  if (sign == '-') skip_spaces();  // a line end after {% raw %} stays
  for (size_t tag = source_.find("{%", at_); tag != std::string::npos;
       tag = source_.find("{%", tag + 2)) {
    if (!match(tag, "endraw", end, sign)) continue;
    text_until(tag);
    advance(end - at_);
    if (sign == '-') skip_spaces();
    if (sign == '\0') after_block_end();
    return true;
  }
  throw Failure("a raw block is not closed");
}

// Decodes a backslash and the next characters of a Python string.
std::string Lexer::escaped() {
  const char c = peek(1);
  const auto hex = [&](size_t digits) {
    const auto text = rest().substr(2, digits);
    if (text.size() != digits ||
        !std::ranges::all_of(text, [](unsigned char d) { return std::isxdigit(d) != 0; })) {
      throw Failure("a bad escape in a string");
    }
    advance(2 + digits);
    return character(static_cast<char32_t>(std::stoul(std::string(text), nullptr, 16)));
  };
  if (c == 'x') return hex(2);
  if (c == 'u') return hex(4);
  if (c == 'U') return hex(8);
  if (c == 'N') throw Unsupported("the escape \\N in a string is not supported");
  if (c >= '0' && c <= '7') {
    size_t digits = 0;
    char32_t point = 0;
    for (; digits < 3 && peek(1 + digits) >= '0' && peek(1 + digits) <= '7'; ++digits)
      point = point * 8 + static_cast<char32_t>(peek(1 + digits) - '0');
    advance(1 + digits);
    return character(point);
  }
  if (static_cast<unsigned char>(c) >=
      0x80) {  // Jinja escapes such a character itself before it unescapes
    const auto point = tokenizer::char_at(source_, at_ + 1);
    char text[16];
    std::snprintf(text, sizeof text,
                  point.point < 0x100     ? "\\x%02x"
                  : point.point < 0x10000 ? "\\u%04x"
                                          : "\\U%08x",
                  static_cast<unsigned>(point.point));
    advance(1 + static_cast<size_t>(point.size));
    return text;
  }
  constexpr std::string_view kLetters = "ntr\\'\"abfv", kMeaning{"\n\t\r\\'\"\a\b\f\v", 10};
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
  const auto is_base_digit = [](char c, int base) {
    return base == 16 ? std::isxdigit(static_cast<unsigned char>(c)) != 0
                      : c >= '0' && c < '0' + base;
  };
  // Digits of a base from k on, underscores between them.
  const auto digits_end = [&](size_t k, int base, char only = '\0') {
    const auto good = [&](char c) { return is_base_digit(c, base) && (only == '\0' || c == only); };
    while (good(peek(k)) || (peek(k) == '_' && good(peek(k + 1)))) ++k;
    return k;
  };
  const auto finish = [&](TokenKind kind, size_t end) {
    std::string text(rest().substr(0, end));
    std::erase(text, '_');
    add(kind, text);
    advance(end);
  };
  // After a dot there is no fraction: x.0.1 are two items.
  if (at_ == 0 || source_[at_ - 1] != '.') {
    size_t end = digits_end(0, 10);
    bool real = false;
    if (peek(end) == '.' && is_ascii_digit(peek(end + 1))) {
      real = true;
      end = digits_end(end + 1, 10);
    }
    const size_t sign = peek(end + 1) == '-' || peek(end + 1) == '+' ? 1 : 0;
    if ((peek(end) | 0x20) == 'e' && is_ascii_digit(peek(end + 1 + sign))) {
      real = true;
      end = digits_end(end + 1 + sign, 10);
    }
    if (real) return finish(TokenKind::real, end);
  }
  const char mark = static_cast<char>(peek(1) | 0x20);
  const int base = peek() != '0' ? 10 : mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
  if (base != 10 && digits_end(2, base) > 2) return finish(TokenKind::integer, digits_end(2, base));
  finish(TokenKind::integer, digits_end(0, 10, peek() == '0' ? '0' : '\0'));
}

void Lexer::symbol() {
  for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
    if (rest().starts_with(two)) {
      add(TokenKind::symbol, std::string(two));
      return advance(2);
    }
  }
  if (std::string_view("+-*/%~<>=.,:|()[]{}").find(peek()) == std::string_view::npos ||
      peek() == '\0') {
    throw Failure(std::string("unexpected character '") + peek() + "'");
  }
  add(TokenKind::symbol, std::string(1, peek()));
  advance(1);
}

// The inside of {{ }} or {% %}.
void Lexer::expression(std::string_view closing, TokenKind closing_kind) {
  std::string open;  // brackets
  for (;;) {
    skip_spaces();
    if (at_ >= source_.size()) throw Failure("'" + std::string(closing) + "' is missing");
    const bool signed_end = (peek() == '-' || (peek() == '+' && closing == "%}")) &&
                            rest().substr(1).starts_with(closing);
    if (open.empty() && (signed_end || rest().starts_with(closing))) {
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
    } else if (is_ascii_digit(c)) {
      number();
    } else if (starts_name(c)) {
      size_t k = 0;
      while (starts_name(peek(k)) || is_ascii_digit(peek(k))) ++k;
      const auto name = rest().substr(0, k);
      if (!is_identifier(name)) throw Failure("'" + std::string(name) + "' is no name");
      add(TokenKind::name, std::string(name));
      advance(k);
    } else {
      if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty() || open.back() != c) throw Failure(std::string("unexpected '") + c + "'");
        open.pop_back();
      }
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
      advance(peek(2) == '-' || peek(2) == '+' ? 3 : 2);
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
