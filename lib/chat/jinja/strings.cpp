// Pieces of text: what str's methods and the filters share.
#include <algorithm>

#include "lib/chat/jinja/builtins.h"
#include "lib/chat/jinja/unicode.h"
#include "lib/tokenizer/unicode.h"

namespace qwb::jinja {

using tokenizer::char_at;
using tokenizer::char_before;

std::string_view part_of(std::string_view text, int64_t begin, int64_t end) {
  const auto offset = [&](int64_t count, size_t at) {
    for (; count > 0 && at < text.size(); --count)
      at += static_cast<size_t>(char_at(text, at).size);
    return at;
  };
  begin = std::max<int64_t>(begin, 0);
  const size_t from = offset(begin, 0);
  return text.substr(from, offset(end - begin, from) - from);
}

std::string_view strip_text(std::string_view text, const std::string* set, bool left, bool right) {
  std::vector<std::string_view> wanted;
  if (set != nullptr) wanted = characters(*set);
  const auto goes = [&](std::string_view c) {
    return set != nullptr ? std::ranges::find(wanted, c) != wanted.end()
                          : is_python_space(char_at(c, 0).point);
  };
  while (left && !text.empty()) {
    const auto size = static_cast<size_t>(char_at(text, 0).size);
    if (!goes(text.substr(0, size))) break;
    text.remove_prefix(size);
  }
  while (right && !text.empty()) {
    const auto size = static_cast<size_t>(char_before(text, text.size()).size);
    if (!goes(text.substr(text.size() - size))) break;
    text.remove_suffix(size);
  }
  return text;
}

std::string replace_text(std::string_view text, std::string_view from, std::string_view to,
                         int64_t count, Budget& budget) {
  std::string out;
  size_t at = 0;
  const auto put = [&](std::string_view piece) {
    budget.charge(static_cast<int64_t>(piece.size()) + 1);
    out += piece;
  };
  while (count != 0) {
    // An empty `from` matches before every character and at the end.
    const size_t found = from.empty() ? at : text.find(from, at);
    if (found == std::string_view::npos) break;
    put(text.substr(at, found - at));
    put(to);
    if (count > 0) --count;
    at = found + from.size();
    if (!from.empty()) continue;
    if (at >= text.size()) return out;
    const auto size = static_cast<size_t>(char_at(text, at).size);
    put(text.substr(at, size));
    at += size;
  }
  put(text.substr(at));
  return out;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const auto c = char_at(text, at);
    const char32_t p = c.point;
    const size_t end = at;
    at += static_cast<size_t>(c.size);
    if (!((p >= 0xa && p <= 0xd) || (p >= 0x1c && p <= 0x1e) || p == 0x85 || p == 0x2028 ||
          p == 0x2029))
      continue;
    if (p == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

Value escape(const Value& value) {
  if (value.is_markup()) return value;
  std::string out;
  for (const char c : to_text(value)) {
    out += c == '&'    ? "&amp;"
           : c == '<'  ? "&lt;"
           : c == '>'  ? "&gt;"
           : c == '"'  ? "&#34;"
           : c == '\'' ? "&#39;"
                       : std::string(1, c);
  }
  return Value::markup(std::move(out));
}

Value join_text(const Value& separator, const Value& parts, Budget& budget) {
  std::string out;
  bool first = true;
  const auto next = iterate_once(parts);
  for (Value part; next(part);) {
    if (!separator.is_markup() && part.text() == nullptr)
      throw Failure("join() needs strings, not " + type_name(part));
    const Value text = separator.is_markup() ? escape(part) : part;
    budget.charge(static_cast<int64_t>(text.text()->size() + separator.text()->size()) + 1);
    if (!first) out += *separator.text();
    first = false;
    out += *text.text();
  }
  return Value::text_like(std::move(out), separator.is_markup());
}

}  // namespace qwb::jinja
