#include "lib/tokenizer/scanner.h"

#include <array>

#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

constexpr uint16_t kNewline = 512;  // \r or \n, a class of this file only
constexpr uint16_t kEnd = 1024;     // beyond the text: in no class, not even "other"

constexpr auto kAscii = [] {
  std::array<uint16_t, 128> table{};
  for (unsigned char c = 'a'; c <= 'z'; ++c) table[c] = table[c - 32] = kLetter;
  for (unsigned char c = '0'; c <= '9'; ++c) table[c] = kNumber;
  for (const unsigned char c : {' ', '\t', '\v', '\f'}) table[c] = kSpace;
  for (const unsigned char c : {'\r', '\n'}) table[c] = kSpace | kNewline;
  return table;
}();

struct View {
  std::string_view text;

  // Class of the character at `at`, and its size.
  uint16_t kind(size_t at, size_t& size) const {
    size = 1;
    if (at >= text.size()) return kEnd;
    const auto lead = static_cast<unsigned char>(text[at]);
    if (lead < 0x80) return kAscii[lead];
    const Char c = char_at(text, at);
    size = static_cast<size_t>(c.size);
    return char_class(c.point) & (kLetter | kNumber | kSpace);
  }
  // End of the run of characters of class `wanted` from `at`.
  size_t run(size_t at, uint16_t wanted) const {
    for (size_t size = 0; (kind(at, size) & wanted) != 0; at += size) {
    }
    return at;
  }
  static bool is_other(uint16_t kind) { return (kind & (kLetter | kNumber | kSpace | kEnd)) == 0; }
  size_t run_of_others(size_t at) const {
    for (size_t size = 0; is_other(kind(at, size)); at += size) {
    }
    return at;
  }
};

// Length of a contraction like 's or 'll at the apostrophe `at`, or 0. Ignoring case, U+017F is an
// s.
size_t contraction(std::string_view text, size_t at, bool ignore_case) {
  const auto letter = [&](size_t k) {
    const char c = k < text.size() ? text[k] : '\0';
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(at + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  const char second = letter(at + 2);
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  if (ignore_case && text.substr(at + 1, 2) == "\xc5\xbf") return 3;
  return 0;
}

// \s+(?!\S)|\s+ : all of a run at the end of the text, else all but its last character, else that
// one.
size_t spaces(const View& view, size_t at) {
  size_t size = 0, last = at, end = at;
  for (; (view.kind(end, size) & kSpace) != 0; end += size) last = end;
  if (end == view.text.size() || last == at) return end;
  return last;
}

size_t scan_gpt2(const View& view, size_t at) {
  if (view.text[at] == '\'') {
    if (const size_t length = contraction(view.text, at, false)) return at + length;
  }
  const size_t start = view.text[at] == ' ' ? at + 1 : at;
  size_t size = 0;
  const uint16_t kind = view.kind(start, size);
  if ((kind & kLetter) != 0) return view.run(start + size, kLetter);
  if ((kind & kNumber) != 0) return view.run(start + size, kNumber);
  if (View::is_other(kind)) return view.run_of_others(start + size);
  return spaces(view, at);
}

size_t scan_llama3(const View& view, size_t at, int digits) {
  if (view.text[at] == '\'') {
    if (const size_t length = contraction(view.text, at, true)) return at + length;
  }
  size_t size = 0, next_size = 0;
  const uint16_t kind = view.kind(at, size);
  if ((kind & kLetter) != 0) return view.run(at + size, kLetter);
  if ((kind & kNumber) != 0) {
    for (at += size; digits > 1 && (view.kind(at, size) & kNumber) != 0; at += size) --digits;
    return at;
  }
  const uint16_t next = view.kind(at + size, next_size);
  if ((kind & kNewline) == 0 && (next & kLetter) != 0)
    return view.run(at + size + next_size, kLetter);
  if (View::is_other(kind) || (view.text[at] == ' ' && View::is_other(next))) {
    size_t end = view.run_of_others(at + size);
    while (end < view.text.size() && (view.text[end] == '\r' || view.text[end] == '\n')) ++end;
    return end;
  }
  // White space: \s*[\r\n]+ takes the run up to its last line break.
  size_t newline = 0;
  for (size_t end = at; (view.kind(end, size) & kSpace) != 0; end += size) {
    if ((view.kind(end, size) & kNewline) != 0) newline = end + 1;
  }
  return newline != 0 ? newline : spaces(view, at);
}

}  // namespace

std::optional<KnownPattern> known_pattern(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return KnownPattern::gpt2;
  if (pattern == kLlama3Pattern) return KnownPattern::llama3;
  if (pattern == kQwen2Pattern) return KnownPattern::qwen2;
  return std::nullopt;
}

size_t scan_piece(KnownPattern pattern, std::string_view text, size_t at) {
  const View view{text};
  switch (pattern) {
    case KnownPattern::gpt2:
      return scan_gpt2(view, at);
    case KnownPattern::llama3:
      return scan_llama3(view, at, 3);
    case KnownPattern::qwen2:
      return scan_llama3(view, at, 1);
  }
  return text.size();
}

}  // namespace qwb::tokenizer
