#include "lib/report/clean_text.h"

#include "lib/base/utf8.h"

namespace qwb::report {
namespace {

// C0, DEL, C1, line separators, marks and overrides of the writing direction.
bool is_control(std::string_view character) {
  if (character.size() == 1)
    return static_cast<unsigned char>(character[0]) < 0x20 || character[0] == 0x7f;
  const auto second = static_cast<unsigned char>(character[1]);
  if (character.size() == 2)
    return static_cast<unsigned char>(character[0]) == 0xc2 && second < 0xa0;
  if (character.size() != 3 || static_cast<unsigned char>(character[0]) != 0xe2) return false;
  const auto third = static_cast<unsigned char>(character[2]);
  return (second == 0x80 &&
          ((third >= 0x8e && third <= 0x8f) || (third >= 0xa8 && third <= 0xae))) ||
         (second == 0x81 && third >= 0xa6 && third <= 0xa9);
}

std::string cleaned(std::string_view text, std::string_view kept) {
  std::string out;
  while (!text.empty()) {
    int bad = 0;
    const int length = utf8_sequence(text, 0, bad);
    const std::string_view character = text.substr(0, length > 0 ? static_cast<size_t>(length) : 1);
    if (length <= 0)
      out += "\xef\xbf\xbd";
    else if (is_control(character) && kept.find(character) == std::string_view::npos)
      out += ' ';
    else
      out += character;
    text.remove_prefix(character.size());
  }
  return out;
}

}  // namespace

std::string clean_text(std::string_view text) {
  return cleaned(text, {});
}

std::string clean_lines(std::string_view text) {
  return cleaned(text, "\n\t");
}

}  // namespace qwb::report
