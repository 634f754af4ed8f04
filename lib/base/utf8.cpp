#include "lib/base/utf8.h"

namespace qwb {

int utf8_sequence(std::string_view text, size_t at, int& bad) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return 1;
  bad = 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const int size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
  unsigned char low = 0x80, high = 0xbf;
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  for (int k = 1; k < size; ++k) {
    bad = k;
    if (at + static_cast<size_t>(k) >= text.size()) return -1;
    const auto byte = static_cast<unsigned char>(text[at + static_cast<size_t>(k)]);
    if (byte < low || byte > high) return 0;
    low = 0x80, high = 0xbf;
  }
  return size;
}

}  // namespace qwb
