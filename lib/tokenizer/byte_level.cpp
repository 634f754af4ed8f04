#include "lib/tokenizer/byte_level.h"

#include <array>

#include "lib/tokenizer/unicode.h"

namespace qwb::tokenizer {
namespace {

struct Alphabet {
  std::array<std::string, 256> character;
  std::array<int16_t, 0x144> byte{};
  Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      const char32_t point = itself ? static_cast<char32_t>(b) : next++;
      append_utf8(character[b], point);
      byte[point] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet value;
  return value;
}

}  // namespace

std::string byte_level_encode(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) out += alphabet().character[static_cast<unsigned char>(byte)];
  return out;
}

bool byte_level_decode(std::string_view text, std::string& out) {
  const size_t before = out.size();
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    const int byte = c.point < 0x144 ? alphabet().byte[c.point] : -1;
    if (byte < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(byte));
    at += static_cast<size_t>(c.size);
  }
  return true;
}

}  // namespace qwb::tokenizer
