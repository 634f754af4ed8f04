// Floats of eight and four bits, as the Open Compute Project defines them (OFP8, Microscaling
// Formats 1.0).
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

namespace qwb {

// E2M1: sign, 2 bits of exponent (bias 1), 1 of mantissa; no NaN, no infinity.
inline constexpr std::array<float, 16> kE2m1 = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,
                                                4.0f,  6.0f,  -0.0f, -0.5f, -1.0f, -1.5f,
                                                -2.0f, -3.0f, -4.0f, -6.0f};
inline constexpr float kLargestE2m1 = 6;

// E4M3: sign, 4 bits of exponent (bias 7), 3 of mantissa; 0x7f and 0xff are NaN, none is infinite
// (torch's float8_e4m3fn).
inline constexpr float kLargestE4m3 = 448;
inline constexpr float kLeastE4m3 = 0x1p-9f;  // above zero
constexpr bool e4m3_is_nan(uint8_t code) {
  return (code & 0x7f) == 0x7f;
}
constexpr float e4m3_value(uint8_t code) {
  if (e4m3_is_nan(code)) return std::numeric_limits<float>::quiet_NaN();
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float magnitude =
      exponent == 0
          ? static_cast<float>(mantissa) * kLeastE4m3
          : std::bit_cast<float>(static_cast<uint32_t>((exponent + 120) << 23 | mantissa << 20));
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

// E8M0: 2^(code - 127); 255 is NaN.
constexpr bool e8m0_is_nan(uint8_t code) {
  return code == 255;
}
constexpr float e8m0_value(uint8_t code) {
  if (e8m0_is_nan(code)) return std::numeric_limits<float>::quiet_NaN();
  return code == 0 ? 0x1p-127f : std::bit_cast<float>(static_cast<uint32_t>(code) << 23);
}

}  // namespace qwb
