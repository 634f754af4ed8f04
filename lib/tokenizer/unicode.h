// UTF-8 and character classes. The classes are those that Hugging Face tokenizers sees (its regex
// engine and the Rust standard library have each their own Unicode version); they were found by
// asking it, tests/golden/make_unicode_tables.py, so that ids do not depend on which ICU or PCRE2 a
// distribution ships.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qwb::tokenizer {

enum CharClass : uint16_t {
  kLetter = 1,         // \p{L}
  kNumber = 2,         // \p{N}
  kSpace = 4,          // \s
  kWord = 8,           // \w in a tokenizer.json pattern
  kRustWord = 16,      // \w for single_word and the Whitespace pre-tokenizer
  kRustSpace = 32,     // char::is_whitespace: lstrip, rstrip, Strip, WhitespaceSplit
  kRustNumeric = 64,   // char::is_numeric: Digits
  kPunctuation = 128,  // Punctuation: ASCII punctuation and general category P
  kMark = 256,         // general category M: what StripAccents removes
};

// The class bits of a code point below 0x110000.
uint16_t char_class(char32_t point);

// The single-code-point lower case; U+0130 alone has two (see Lowercase).
char32_t lower_case(char32_t point);

struct Char {
  char32_t point;
  int size;  // bytes
};

// The code point that begins at `at` < text.size(). `text` must be valid UTF-8 (see sanitize).
inline Char char_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t k) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + k]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {(lead & 0x1f) << 6 | (byte(1) & 0x3f), 2};
  if (lead < 0xf0) return {(lead & 0xf) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), 3};
  return {(lead & 7) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f), 4};
}

// The code point that ends at `end` > 0.
inline Char char_before(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
  return char_at(text, at);
}

void append_utf8(std::string& out, char32_t point);

bool is_valid_utf8(std::string_view text);

// Valid UTF-8: each maximal invalid part becomes one U+FFFD, like Python's
// bytes.decode(errors="replace").
std::string sanitize(std::string_view text);

inline constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

}  // namespace qwb::tokenizer
