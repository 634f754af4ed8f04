// Codes of 1 to 8 bits as a bit stream, least significant bit first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/base/bytes.h"

namespace qwb {

// Bytes of a packed row of `count` codes.
inline int64_t packed_bytes(int64_t count, int bits) {
  return ceil_div(count * bits, 8);
}
// Packs `count` codes (each < 2^bits) into packed_bytes(count, bits) bytes; unpacks them again.
void pack_codes(const uint8_t* codes, int64_t count, int bits, std::byte* packed);
void unpack_codes(const std::byte* packed, int64_t count, int bits, uint8_t* codes);

}  // namespace qwb
