// Characters, properties and classes.
#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <vector>

#include "lib/base/error.h"
#include "lib/tokenizer/oniguruma.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

constexpr const char* kNothing = "(?!)";

std::string any_but(const std::string& one) {
  return "(?:(?!" + one + ")(?s:.))";
}

bool is_hex(char c) {
  return std::isxdigit(static_cast<unsigned char>(c)) != 0;
}

// Up to `most` digits of a base.
std::optional<char32_t> take_number(PatternReader& reader, size_t most, int base) {
  char32_t value = 0;
  size_t digits = 0;
  for (; digits < most && is_hex(reader.peek()); ++digits) {
    const char c = reader.peek();
    const int digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
    if (digit >= base) break;
    value = value * static_cast<char32_t>(base) + static_cast<char32_t>(digit);
    ++reader.at;
  }
  if (digits == 0) return std::nullopt;
  if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
    refuse_pattern("a code point that is none");
  return value;
}

// Lower case, without the spaces, hyphens and underscores that do not count.
std::string loose_name(std::string_view name) {
  std::string result;
  for (const char c : name) {
    if (c != ' ' && c != '-' && c != '_')
      result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return result;
}

// POSIX names and others; each a class.
constexpr std::pair<std::string_view, std::string_view> kProperties[] = {
    {"any", "[\\x{0}-\\x{10ffff}]"},
    {"assigned", "[\\P{Cn}]"},
    {"ascii", "[\\x00-\\x7f]"},
    {"alpha", "[\\p{Alphabetic}]"},
    {"alphabetic", "[\\p{Alphabetic}]"},
    {"alnum", "[\\p{Alphabetic}\\p{Nd}]"},
    {"blank", "[\\p{Zs}\\t]"},
    {"cntrl", "[\\p{Cc}]"},
    {"digit", "[\\p{Nd}]"},
    {"lower", "[\\p{Lowercase}]"},
    {"lowercase", "[\\p{Lowercase}]"},
    {"upper", "[\\p{Uppercase}]"},
    {"uppercase", "[\\p{Uppercase}]"},
    {"punct", "[\\p{P}]"},
    {"graph", "[^\\p{Z}\\p{Cc}\\p{Cn}\\p{Cs}]"},
    {"print", "[^\\x{2028}\\x{2029}\\p{Cc}\\p{Cn}\\p{Cs}]"},
    {"space", kSpaceClass},
    {"whitespace", kSpaceClass},
    {"xdigit", "[0-9A-Fa-f]"},
    {"word", kWordClass},
    {"emoji", "[\\p{Emoji}]"},
    {"extendedpictographic", "[\\p{Extended_Pictographic}]"}};

// General categories, by both of their names.
constexpr std::pair<std::string_view, std::string_view> kCategories[] = {
    {"C", "Other"},
    {"Cc", "Control"},
    {"Cf", "Format"},
    {"Cn", "Unassigned"},
    {"Co", "PrivateUse"},
    {"L", "Letter"},
    {"LC", "CasedLetter"},
    {"Ll", "LowercaseLetter"},
    {"Lm", "ModifierLetter"},
    {"Lo", "OtherLetter"},
    {"Lt", "TitlecaseLetter"},
    {"Lu", "UppercaseLetter"},
    {"M", "Mark"},
    {"Mc", "SpacingMark"},
    {"Me", "EnclosingMark"},
    {"Mn", "NonspacingMark"},
    {"N", "Number"},
    {"Nd", "DecimalNumber"},
    {"Nl", "LetterNumber"},
    {"No", "OtherNumber"},
    {"P", "Punctuation"},
    {"Pc", "ConnectorPunctuation"},
    {"Pd", "DashPunctuation"},
    {"Pe", "ClosePunctuation"},
    {"Pf", "FinalPunctuation"},
    {"Pi", "InitialPunctuation"},
    {"Po", "OtherPunctuation"},
    {"Ps", "OpenPunctuation"},
    {"S", "Symbol"},
    {"Sc", "CurrencySymbol"},
    {"Sk", "ModifierSymbol"},
    {"Sm", "MathSymbol"},
    {"So", "OtherSymbol"},
    {"Z", "Separator"},
    {"Zl", "LineSeparator"},
    {"Zp", "ParagraphSeparator"},
    {"Zs", "SpaceSeparator"}};

// Of Unicode's scripts, those of some twenty million speakers and those in tokenizers' patterns.
constexpr std::string_view kScripts[] = {
    "Arabic",   "Armenian", "Bengali",    "Bopomofo", "Braille",  "Cherokee",  "Common",
    "Coptic",   "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek",     "Gujarati",
    "Gurmukhi", "Han",      "Hangul",     "Hebrew",   "Hiragana", "Inherited", "Javanese",
    "Kannada",  "Katakana", "Khmer",      "Lao",      "Latin",    "Malayalam", "Mongolian",
    "Myanmar",  "Oriya",    "Sinhala",    "Syriac",   "Tamil",    "Telugu",    "Thaana",
    "Thai",     "Tibetan",  "Tifinagh",   "Yi"};

std::map<std::string, std::string> make_properties() {
  std::map<std::string, std::string> names;
  for (const auto& [name, pattern] : kProperties) names.emplace(name, pattern);
  for (const auto& [name, full] : kCategories) {
    const std::string pattern = name == "LC" ? "[\\p{L&}]" : "[\\p{" + std::string(name) + "}]";
    names[loose_name(name)] = names[loose_name(full)] = pattern;
  }
  for (const std::string_view script : kScripts)
    names[loose_name(script)] = "[\\p{sc:" + std::string(script) + "}]";
  return names;
}

const std::map<std::string, std::string>& known_properties() {
  static const std::map<std::string, std::string> all = make_properties();
  return all;
}

// Behind \p or \P: "{Name}" or "{^Name}".
std::string take_property(PatternReader& reader, bool negated) {
  const size_t end = reader.text.find('}', reader.at);
  std::string_view name = reader.text.substr(reader.at + 1, end - reader.at - 1);
  if (end == std::string_view::npos) refuse_pattern("a property without its end");
  reader.at = end + 1;
  if (name.starts_with('^')) {
    negated = !negated;
    name.remove_prefix(1);
  }
  const auto found = known_properties().find(loose_name(name));
  if (found == known_properties().end()) refuse_pattern("the property '" + std::string(name) + "'");
  return negated ? any_but(found->second) : found->second;
}

// "[:name:]" or "[:^name:]" at the reader's place; nothing if there is none.
std::optional<std::string> take_posix_bracket(PatternReader& reader) {
  if (!reader.text.substr(reader.at).starts_with("[:")) return std::nullopt;
  const size_t end = reader.text.find(":]", reader.at + 2);
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view name = reader.text.substr(reader.at + 2, end - reader.at - 2);
  const bool negated = name.starts_with('^');
  if (negated) name.remove_prefix(1);
  constexpr std::array kNames = {"alnum", "alpha", "ascii", "blank", "cntrl", "digit",  "graph",
                                 "lower", "print", "punct", "space", "upper", "xdigit", "word"};
  if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) return std::nullopt;
  reader.at = end + 2;
  const std::string one =
      name == "punct" ? "[\\p{P}\\p{S}]" : known_properties().at(std::string(name));
  return negated ? any_but(one) : one;
}

// A class between its brackets: what it unites so far, and what was intersected before the last &&.
struct ClassParts {
  std::string items;                // of one plain class
  std::vector<std::string> others;  // patterns of one character
  std::optional<std::string> earlier;

  std::string united() const {
    std::string result = items.empty() ? "" : "[" + items + "]";
    for (const std::string& other : others) result += (result.empty() ? "" : "|") + other;
    if (result.empty()) return kNothing;
    return others.size() + (items.empty() ? 0 : 1) == 1 ? result : "(?:" + result + ")";
  }
  void intersect() {
    earlier = whole();
    items.clear();
    others.clear();
  }
  std::string whole() const {
    return earlier ? "(?:(?=" + *earlier + ")" + united() + ")" : united();
  }
};

// One character of a class, as it stands or escaped; none if a set stands there instead, which is
// added.
std::optional<char32_t> take_member(PatternReader& reader, ClassParts& parts, bool ignore_case) {
  if (const auto bracket = take_posix_bracket(reader)) {
    parts.others.push_back(*bracket);
    return std::nullopt;
  }
  if (reader.take("[")) {
    parts.others.push_back(take_class(reader, ignore_case));
    return std::nullopt;
  }
  if (!reader.take("\\")) return reader.take_point();
  if (const auto type = take_type_escape(reader)) {
    parts.others.push_back(*type);
    return std::nullopt;
  }
  if (reader.take("b")) return U'\b';
  if (const auto point = take_character_escape(reader)) return point;
  return reader.take_point();
}

void require_plain_fold(char32_t last, bool ignore_case) {
  if (ignore_case && last >= 0x80)
    refuse_pattern("a class with letters beyond ASCII that ignores case");
}

}  // namespace

char32_t PatternReader::take_point() {
  const Char c = char_at(text, at);
  at += static_cast<size_t>(c.size);
  return c.point;
}

void refuse_pattern(const std::string& what) {
  throw Error(ErrorKind::unsupported, what + " is not supported");
}

std::string pattern_of(char32_t point) {
  if ((point < 0x80 && std::isalnum(static_cast<int>(point)) != 0) || point == ' ' ||
      point >= 0xa0) {
    std::string result;
    append_utf8(result, point);
    return result;
  }
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "\\x{%x}", static_cast<unsigned>(point));
  return text.data();
}

std::optional<char32_t> take_character_escape(PatternReader& reader) {
  constexpr std::pair<char, char32_t> kNamed[] = {
      {'t', '\t'}, {'n', '\n'}, {'r', '\r'}, {'f', '\f'}, {'v', '\v'}, {'a', '\a'}, {'e', 0x1b}};
  for (const auto& [letter, point] : kNamed) {
    if (reader.take({&letter, 1})) return point;
  }
  for (const std::string_view control : {"c", "C-", "M-"}) {
    if (reader.text.substr(reader.at).starts_with(control))
      refuse_pattern("a control or meta escape");
  }
  if (reader.take("x{")) {
    const auto point = take_number(reader, 8, 16);
    if (!point || !reader.take("}")) refuse_pattern("\\x{...} with other than one code point");
    return point;
  }
  if (reader.take("x")) {
    const auto point = take_number(reader, 2, 16);
    if (!point || *point >= 0x80)
      refuse_pattern("\\x with other than two digits of an ASCII character");
    return point;
  }
  if (reader.peek() == 'u') {
    for (size_t i = 1; i <= 4; ++i) {
      if (!is_hex(reader.peek(i))) refuse_pattern("\\u with other than four digits");
    }
    ++reader.at;
    return take_number(reader, 4, 16);
  }
  if (reader.peek() == '0') return take_number(reader, 3, 8);
  return std::nullopt;
}

std::optional<std::string> take_type_escape(PatternReader& reader) {
  const std::pair<char, std::string> kTypes[] = {{'d', "[\\p{Nd}]"},
                                                 {'w', std::string(kWordClass)},
                                                 {'s', std::string(kSpaceClass)},
                                                 {'h', "[0-9A-Fa-f]"}};
  for (const auto& [letter, one] : kTypes) {
    if (reader.take({&letter, 1})) return one;
    const char upper = static_cast<char>(letter - 32);
    if (reader.take({&upper, 1})) return "[^" + one.substr(1);
  }
  if ((reader.peek() != 'p' && reader.peek() != 'P') || reader.peek(1) != '{') return std::nullopt;
  const bool negated = reader.peek() == 'P';
  ++reader.at;
  return take_property(reader, negated);
}

std::string take_class(PatternReader& reader, bool ignore_case) {
  const bool negated = reader.take("^");
  ClassParts parts;
  bool first = true;
  for (;; first = false) {
    if (!reader.more()) throw Error(ErrorKind::failed, "a character class has no end");
    if (!first && reader.take("]")) break;
    if (first && reader.peek() == ']' &&
        reader.text.find(']', reader.at + 1) == std::string_view::npos)
      throw Error(ErrorKind::failed, "a character class is empty");
    if (reader.take("&&")) {
      parts.intersect();
      continue;
    }
    const auto from = take_member(reader, parts, ignore_case);
    if (!from) continue;
    auto to = from;
    if (reader.peek() == '-' && reader.peek(1) != ']' &&
        !reader.text.substr(reader.at).starts_with("-&&")) {
      ++reader.at;
      const size_t sets = parts.others.size();
      to = take_member(reader, parts, ignore_case);
      if (!to || parts.others.size() != sets || *to < *from)
        refuse_pattern("a range of characters without an end");
    }
    require_plain_fold(*to, ignore_case);
    parts.items += pattern_of(*from) + (to == from ? "" : "-" + pattern_of(*to));
  }
  const std::string whole = parts.whole();
  if (!negated) return whole;
  if (parts.others.empty() && !parts.earlier && !parts.items.empty())
    return "[^" + parts.items + "]";
  return any_but(whole);
}

bool folds_beyond_ascii(std::string_view letters) {
  std::string lower;
  for (const char c : letters) {
    if (static_cast<signed char>(c) < 0) return true;
    lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  for (const char* several : {"ss", "st", "ff", "fi", "fl"}) {
    if (lower.find(several) != std::string::npos) return true;
  }
  return false;
}

}  // namespace qwb::tokenizer
