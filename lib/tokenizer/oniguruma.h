// Regular expressions of Oniguruma with Ruby's syntax, which Hugging Face tokenizers uses, as
// PCRE2's. Syntax that both accept with different meanings is spelled out (\s \w \b . ^ $ && {n,m}+
// nested classes, POSIX brackets, properties that mean scripts); the rest is refused by name.
// Source: Oniguruma's doc/RE.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace qwb::tokenizer {

// Throws unsupported naming the construct, `failed` for a pattern that Oniguruma does not read
// either.
std::string translate_oniguruma(std::string_view pattern);

// A place in a pattern.
struct PatternReader {
  std::string_view text;
  size_t at = 0;

  bool more() const { return at < text.size(); }
  char peek(size_t ahead = 0) const { return at + ahead < text.size() ? text[at + ahead] : '\0'; }
  bool take(std::string_view expected) {
    if (!text.substr(at).starts_with(expected)) return false;
    at += expected.size();
    return true;
  }
  char32_t take_point();
};

[[noreturn]] void refuse_pattern(const std::string& what);
// The pattern that matches one code point and nothing else; also inside of a class.
std::string pattern_of(char32_t point);
// Behind a backslash: a character given by its code or as \n and the like; none for another escape.
std::optional<char32_t> take_character_escape(PatternReader& reader);
// Behind a backslash: \d \D \w \W \s \S \h \H \p \P as a pattern that matches one character; none
// for others.
std::optional<std::string> take_type_escape(PatternReader& reader);
// Behind "[": a class, as a pattern that matches one character.
std::string take_class(PatternReader& reader, bool ignore_case);
// True if more than one character may be folded to it (ss and \u00df), or if it is not ASCII.
bool folds_beyond_ascii(std::string_view letters);

// Oniguruma's \w in a class: letters, marks, Nd, Nl, Pc and the circled letters. (PCRE2's has all
// numbers and no marks.)
inline constexpr std::string_view kWordClass =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}])";

// Outside of classes, and for \b, the numbers of Latin-1 (\u00b2 and others) are among them.
inline constexpr std::string_view kWordOutside =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}])";

// \s, and the same in less space: PCRE2's limit on a pattern's size is near where \s{512} is meant.
inline constexpr std::string_view kSpaceClass =
    R"([\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}])";
inline constexpr std::string_view kSmallSpaceClass = R"((?:(?!\x{180e})\s))";

}  // namespace qwb::tokenizer
