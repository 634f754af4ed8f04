#include "lib/codec/bit_codes.h"

#include <algorithm>

namespace qwb {

void pack_codes(const uint8_t* codes, int64_t count, int bits, std::byte* packed) {
  int64_t i = 0;
  if (bits == 8) {
    std::copy_n(reinterpret_cast<const std::byte*>(codes), count, packed);
    return;
  }
  if (bits == 4) {
    for (; i + 2 <= count; i += 2) *packed++ = static_cast<std::byte>(codes[i] | codes[i + 1] << 4);
  }
  for (; i + 8 <= count; i += 8, packed += bits) {  // eight codes fill `bits` bytes
    uint64_t word = 0;
    for (int k = 0; k < 8; ++k) word |= static_cast<uint64_t>(codes[i + k]) << (k * bits);
    for (int b = 0; b < bits; ++b) packed[b] = static_cast<std::byte>(word >> (8 * b) & 0xffu);
  }
  uint32_t buffer = 0;
  int held = 0;
  for (; i < count; ++i) {
    buffer |= static_cast<uint32_t>(codes[i]) << held;
    for (held += bits; held >= 8; held -= 8, buffer >>= 8)
      *packed++ = static_cast<std::byte>(buffer & 0xffu);
  }
  if (held > 0) *packed = static_cast<std::byte>(buffer & 0xffu);
}

void unpack_codes(const std::byte* packed, int64_t count, int bits, uint8_t* codes) {
  if (bits == 8) {
    std::copy_n(reinterpret_cast<const uint8_t*>(packed), count, codes);
    return;
  }
  if (bits == 4) {
    for (; count >= 2; count -= 2, codes += 2) {
      const auto pair = static_cast<uint8_t>(*packed++);
      codes[0] = pair & 15;
      codes[1] = static_cast<uint8_t>(pair >> 4);
    }
  }
  const uint32_t mask = (1u << bits) - 1;
  for (; count >= 8; count -= 8, packed += bits, codes += 8) {
    uint64_t word = 0;
    for (int b = 0; b < bits; ++b) word |= static_cast<uint64_t>(packed[b]) << (8 * b);
    for (int k = 0; k < 8; ++k) codes[k] = static_cast<uint8_t>(word >> (k * bits) & mask);
  }
  uint32_t buffer = 0;
  int held = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (held < bits) {
      buffer |= static_cast<uint32_t>(*packed++) << held;
      held += 8;
    }
    codes[i] = static_cast<uint8_t>(buffer & mask);
    buffer >>= bits;
    held -= bits;
  }
}

}  // namespace qwb
