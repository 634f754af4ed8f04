#include "lib/evaluate/unicode_text.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>

namespace qwb {
namespace {

struct Character {
  UChar32 code = 0;  // negative: an invalid byte
  size_t bytes = 1;
};

Character character_at(std::string_view text, size_t place) {
  // At most four bytes are looked at: 32-bit offsets are enough whatever the text's size.
  const auto length = static_cast<int32_t>(std::min<size_t>(4, text.size() - place));
  const auto* data = reinterpret_cast<const uint8_t*>(text.data() + place);
  int32_t used = 0;
  UChar32 code = 0;
  U8_NEXT(data, used, length, code);
  return {code, code < 0 ? 1 : static_cast<size_t>(used)};
}

bool is_space(UChar32 c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

void append(std::string& text, UChar32 c) {
  uint8_t bytes[4];
  int32_t used = 0;
  U8_APPEND_UNSAFE(bytes, used, c);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(used));
}

}  // namespace

size_t space_at(std::string_view text, size_t place) {
  const auto first = static_cast<unsigned char>(text[place]);
  if (first < 0x80) return is_space(first) ? 1 : 0;
  const Character c = character_at(text, place);
  return is_space(c.code) ? c.bytes : 0;
}

std::string_view strip_right(std::string_view text) {
  size_t end = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t space = space_at(text, i);
    i += space > 0 ? space : character_at(text, i).bytes;
    if (space == 0) end = i;
  }
  return text.substr(0, end);
}

std::string_view strip(std::string_view text) {
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t space = space_at(text, begin);
    if (space == 0) break;
    begin += space;
  }
  return strip_right(text.substr(begin));
}

int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (size_t i = 0; i < text.size(); i += character_at(text, i).bytes) ++count;
  return count;
}

std::string capitalize(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    if (c.code < 0) {
      result += text[i];
    } else {
      append(result, i == 0 ? u_totitle(c.code) : u_tolower(c.code));
    }
    i += c.bytes;
  }
  return result;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  size_t begin = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, begin)) {
    result.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  return result.append(text, begin);
}

}  // namespace qwb
