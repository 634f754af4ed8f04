#include "lib/quantize/plan/module_pattern.h"

#include "lib/base/error.h"

namespace qwb {
namespace {

// Position after the ']' of the set that begins at pattern[begin] == '['; npos if there is none. A
// ']' that comes first is a member.
size_t set_end(std::string_view pattern, size_t begin) {
  size_t at = begin + 1;
  if (at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^')) ++at;
  const size_t close = pattern.find(']', at + 1);
  return close == std::string_view::npos ? close : close + 1;
}

bool in_set(std::string_view set, char c) {
  size_t at = 1;
  const bool negated = set[at] == '!' || set[at] == '^';
  at += negated ? 1 : 0;
  bool found = false;
  for (; at + 1 < set.size(); ++at) {
    const bool range = at + 3 < set.size() && set[at + 1] == '-';
    const char low = set[at], high = range ? set[at + 2] : low;
    found = found || (low <= c && c <= high);
    at += range ? 2 : 0;
  }
  return found != negated;
}

// One element of the pattern (not '*') against one character; `next` becomes the position behind
// it.
bool element_matches(std::string_view pattern, size_t at, char c, size_t& next) {
  next = at + 1;
  if (pattern[at] == '?') return true;
  const size_t end = pattern[at] == '[' ? set_end(pattern, at) : std::string_view::npos;
  if (end == std::string_view::npos) return pattern[at] == c;
  next = end;
  return in_set(pattern.substr(at, end - at), c);
}

// Only the last '*' passed is ever tried again with one more character: what an earlier one could
// take, the last one can take as well.
bool whole_matches(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, star_name = 0, next = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_name = n;
    } else if (p < pattern.size() && element_matches(pattern, p, name[n], next)) {
      p = next;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

void check_pattern(const std::string& pattern, const std::string& where) {
  if (pattern.empty()) throw Error(ErrorKind::usage, "a pattern must not be empty", where);
  for (size_t at = 0; at < pattern.size(); ++at) {
    if (pattern[at] != '[') continue;
    at = set_end(pattern, at);
    if (at == std::string::npos)
      throw Error(ErrorKind::usage, "the pattern '" + pattern + "' has a [ without ]", where);
    --at;
  }
}

bool pattern_matches(std::string_view pattern, std::string_view name) {
  if (whole_matches(pattern, name)) return true;
  if (!pattern.empty() && pattern[0] == '*') return false;  // has taken every beginning already
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
    if (whole_matches(pattern, name.substr(dot + 1))) return true;
  }
  return false;
}

bool is_plain_pattern(std::string_view pattern) {
  return pattern.find_first_of("*?[") == std::string_view::npos;
}

}  // namespace qwb
