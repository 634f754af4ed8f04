#include "lib/tokenizer/oniguruma.h"

#include <algorithm>
#include <vector>

#include "lib/base/error.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

constexpr size_t kDeepest = 200;

struct RegexOptions {
  bool ignore_case = false, any_line = false, extended = false;
};

struct Atom {
  std::string pattern;
  bool repeats = true;  // false: a place (anchor, look-around), which cannot be repeated
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : reader_{pattern} { count_groups(); }
  std::string run() {
    const std::string result = alternatives({}, 0);
    if (reader_.more()) throw Error(ErrorKind::failed, "a ')' closes nothing");
    return result;
  }

 private:
  void count_groups();
  std::string alternatives(RegexOptions options, size_t depth);
  std::string sequence(RegexOptions& options, size_t depth);
  Atom atom(const RegexOptions& options, size_t depth);
  Atom group(const RegexOptions& options, size_t depth);
  Atom escape();
  Atom back_reference();
  std::string option_group(RegexOptions options, size_t depth, bool& isolated);
  bool skip_extended(const RegexOptions& options);
  bool repeat(std::string& one);
  bool interval(std::string& one);
  std::string close(std::string inside) {
    if (!reader_.take(")")) throw Error(ErrorKind::failed, "a '(' has no ')'");
    return inside + ")";
  }

  PatternReader reader_;
  bool named_ = false;  // then plain parentheses do not capture
  int captures_ = 0;
};

// Backreferences need to know the groups behind them as well.
void Translator::count_groups() {
  int plain = 0, named = 0;
  bool inside = false;
  for (size_t i = 0; i < reader_.text.size(); ++i) {
    const std::string_view rest = reader_.text.substr(i);
    if (rest[0] == '\\') {
      ++i;
    } else if (rest[0] == '[') {
      inside = true;
    } else if (rest[0] == ']') {
      inside = false;
    } else if (!inside && rest[0] == '(') {
      const bool name = rest.starts_with("(?'") || (rest.starts_with("(?<") && rest.size() > 3 &&
                                                    rest[3] != '=' && rest[3] != '!');
      named += name;
      plain += !name && !rest.starts_with("(?");
    }
  }
  named_ = named > 0;
  captures_ = named_ ? named : plain;
}

std::string Translator::alternatives(RegexOptions options, size_t depth) {
  if (depth > kDeepest) throw Error(ErrorKind::failed, "a regular expression is nested too deeply");
  std::string result = sequence(options, depth);
  while (reader_.take("|")) result += "|" + sequence(options, depth);
  return result;
}

bool Translator::skip_extended(const RegexOptions& options) {
  if (!options.extended) return false;
  const char c = reader_.peek();
  if (c == '#') {
    while (reader_.more() && reader_.peek() != '\n') ++reader_.at;
    return true;
  }
  if (c != ' ' && !(c >= '\t' && c <= '\r')) return false;
  ++reader_.at;
  return true;
}

std::string Translator::sequence(RegexOptions& options, size_t depth) {
  std::string result, letters;
  while (reader_.more() && reader_.peek() != '|' && reader_.peek() != ')') {
    if (skip_extended(options)) continue;
    if (reader_.take("(?#")) {
      const size_t end = reader_.text.find(')', reader_.at);
      if (end == std::string_view::npos) throw Error(ErrorKind::failed, "a comment has no end");
      reader_.at = end + 1;
      continue;
    }
    bool isolated = false;
    if (reader_.peek() == '(' && reader_.peek(1) == '?') {
      // (?i) holds to the end of the group it stands in, the alternatives behind it included.
      const std::string rest = option_group(options, depth, isolated);
      if (isolated) return result + rest;
    }
    const size_t begin = reader_.at;
    Atom one = atom(options, depth);
    const bool letter = reader_.at == begin + 1 && one.repeats;
    letters = letter || static_cast<signed char>(reader_.text[begin]) < 0
                  ? letters + std::string(reader_.text.substr(begin, reader_.at - begin))
                  : "";
    if (options.ignore_case && folds_beyond_ascii(letters))
      refuse_pattern("'" + letters + "', which has other spellings where case is ignored,");
    while (skip_extended(options)) {
    }
    while (repeat(one.pattern)) {
      if (!one.repeats) throw Error(ErrorKind::failed, "a place in the text cannot be repeated");
      letters.clear();
    }
    result += one.pattern;
  }
  return result;
}

// "{n,m}" and its kin; anything else in braces is text.
bool Translator::interval(std::string& one) {
  PatternReader probe = reader_;
  std::string low, high;
  ++probe.at;
  while (is_digit(probe.peek())) low += probe.text[probe.at++];
  const bool comma = probe.take(",");
  while (comma && is_digit(probe.peek())) high += probe.text[probe.at++];
  if (!probe.take("}") || (low.empty() && high.empty())) return false;
  if (low.size() > 5 || high.size() > 5)
    throw Error(ErrorKind::failed, "a repetition is too large");
  if (!high.empty() && !low.empty() && std::stoi(high) < std::stoi(low))
    refuse_pattern("{n,m} with n above m");
  reader_ = probe;
  if (one == kSpaceClass && std::max(low.size(), high.size()) > 1) one = kSmallSpaceClass;
  one = "(?:" + one + "){" + (low.empty() ? "0" : low) + (comma ? "," + high : "") + "}";
  if (comma && reader_.take("?")) one += "?";  // {n}? is a repeat of a repeat, and so is {n,m}+
  one = "(?:" + one + ")";
  return true;
}

bool Translator::repeat(std::string& one) {
  const char c = reader_.peek();
  if (c == '{') return interval(one);
  if (c != '*' && c != '+' && c != '?') return false;
  ++reader_.at;
  one = "(?:" + one + ")" + c;
  if (reader_.peek() == '?' || reader_.peek() == '+') one += reader_.text[reader_.at++];
  one = "(?:" + one + ")";
  return true;
}

Atom Translator::atom(const RegexOptions& options, size_t depth) {
  const char c = reader_.peek();
  if (c == '*' || c == '+' || c == '?')
    throw Error(ErrorKind::failed, "a repetition repeats nothing");
  if (c == '{') {
    std::string nothing;
    if (interval(nothing)) throw Error(ErrorKind::failed, "a repetition repeats nothing");
  }
  if (c == '(') return group(options, depth);
  if (reader_.take("[")) return {take_class(reader_, options.ignore_case)};
  if (reader_.take(".")) return {options.any_line ? "(?s:.)" : "[^\\n]"};
  if (reader_.take("^")) return {"(?:\\A|(?<=\\n)(?!\\z))", false};
  if (reader_.take("$")) return {"(?:(?=\\n)|\\z)", false};
  if (reader_.take("\\")) return escape();
  return {pattern_of(reader_.take_point())};
}

// (?imx-imx) alone: the rest of its group; with a colon it is left to group().
std::string Translator::option_group(RegexOptions options, size_t depth, bool& isolated) {
  const size_t begin = reader_.at;
  reader_.at += 2;
  bool on = true;
  for (;; ++reader_.at) {
    const char c = reader_.peek();
    if (c == '-') on = false;
    if (c == 'i') options.ignore_case = on;
    if (c == 'm') options.any_line = on;
    if (c == 'x') options.extended = on;
    if (c != '-' && c != 'i' && c != 'm' && c != 'x') break;
  }
  const std::string head = options.ignore_case ? "(?i:" : "(?-i:";
  if (reader_.at > begin + 2 && reader_.take(")")) {
    isolated = true;
    return head + alternatives(options, depth + 1) + ")";
  }
  reader_.at = begin;
  return {};
}

Atom Translator::group(const RegexOptions& options, size_t depth) {
  for (const char* look : {"(?=", "(?!", "(?<=", "(?<!"}) {
    if (reader_.take(look)) return {close(look + alternatives(options, depth + 1)), false};
  }
  for (const char* plain : {"(?:", "(?>"}) {
    if (reader_.take(plain)) return {close(plain + alternatives(options, depth + 1))};
  }
  for (const auto& [start, end] : {std::pair{"(?<", '>'}, {"(?'", '\''}}) {
    if (!reader_.take(start)) continue;
    const size_t stop = reader_.text.find(end, reader_.at);
    if (stop == std::string_view::npos)
      throw Error(ErrorKind::failed, "the name of a group has no end");
    const std::string name(reader_.text.substr(reader_.at, stop - reader_.at));
    reader_.at = stop + 1;
    return {close("(?<" + name + ">" + alternatives(options, depth + 1))};
  }
  if (reader_.take("(?~")) refuse_pattern("the absent operator (?~");
  if (reader_.take("(?(")) refuse_pattern("a condition (?(");
  if (reader_.take("(*") || reader_.take("(?{") || reader_.take("(?@")) refuse_pattern("a callout");
  if (!reader_.take("(?")) {
    reader_.take("(");
    return {close((named_ ? "(?:" : "(") + alternatives(options, depth + 1))};
  }
  RegexOptions inner = options;
  bool on = true;
  for (; !reader_.take(":"); ++reader_.at) {
    const char c = reader_.peek();
    if (c == '-') on = false;
    if (c == 'i') inner.ignore_case = on;
    if (c == 'm') inner.any_line = on;
    if (c == 'x') inner.extended = on;
    if (c != '-' && c != 'i' && c != 'm' && c != 'x')
      refuse_pattern(std::string("the group (?") + c);
  }
  return {close((inner.ignore_case ? "(?i:" : "(?-i:") + alternatives(inner, depth + 1))};
}

Atom Translator::back_reference() {
  std::string number;
  while (is_digit(reader_.peek())) number += reader_.text[reader_.at++];
  if (named_ || number.size() > 3 || std::stoi(number) > captures_)
    refuse_pattern("the reference \\" + number);
  return {"\\g{" + number + "}"};
}

Atom Translator::escape() {
  const std::string word(kWordOutside);
  const std::pair<char, Atom> kOthers[] = {
      {'R', {"(?>\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])"}},
      {'N', {"[^\\n]"}},
      {'O', {"(?s:.)"}},
      {'A', {"\\A", false}},
      {'z', {"\\z", false}},
      {'Z', {"(?:\\z|(?=\\n\\z))", false}},
      {'G', {"\\G", false}},
      {'b', {"(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))", false}},
      {'B', {"(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))", false}}};
  if (!reader_.more()) throw Error(ErrorKind::failed, "a regular expression ends in a backslash");
  if (reader_.take("w")) return {word};
  if (reader_.take("W")) return {"[^" + word.substr(1)};
  if (auto type = take_type_escape(reader_)) {
    if (const size_t at = type->find(kWordClass); at != std::string::npos)  // \p{Word}
      type->replace(at, kWordClass.size(), word);
    return {*type};
  }
  for (const auto& [letter, one] : kOthers) {
    if (reader_.take({&letter, 1})) return one;
  }
  for (const char letter : {'K', 'X', 'y', 'Y', 'g'}) {
    if (reader_.peek() == letter) refuse_pattern(std::string("\\") + letter);
  }
  if (reader_.take("k<")) {
    const size_t stop = reader_.text.find('>', reader_.at);
    const std::string name(reader_.text.substr(reader_.at, stop - reader_.at));
    if (stop == std::string_view::npos || name.empty() || is_digit(name[0]) || name[0] == '-' ||
        name[0] == '+')
      refuse_pattern("a reference by number \\k<");
    reader_.at = stop + 1;
    return {"\\k<" + name + ">"};
  }
  if (reader_.peek() >= '1' && reader_.peek() <= '9') {
    // Octal where there are not that many groups, as in \101.
    PatternReader probe = reader_;
    std::string digits;
    while (is_digit(probe.peek())) digits += probe.text[probe.at++];
    if (digits.size() == 1 || std::stoi(digits.substr(0, 3)) <= captures_) return back_reference();
    refuse_pattern("the octal code \\" + digits);
  }
  if (const auto point = take_character_escape(reader_)) return {pattern_of(*point)};
  return {pattern_of(reader_.take_point())};
}

}  // namespace

std::string translate_oniguruma(std::string_view pattern) {
  return Translator(pattern).run();
}

}  // namespace qwb::tokenizer
