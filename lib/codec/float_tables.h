// What the 16 codes of a 4-bit float stand for. NF4: quantiles of the normal distribution (Dettmers
// et al. 2023, arXiv 2305.14314); FP4: sign, 2 bits of exponent, 1 bit of mantissa, over 12.
#pragma once

#include <array>

#include "lib/codec/float_blocks.h"

namespace qwb {

// Values from bitsandbytes' functional.py; FP4 codes are sign (8) and magnitudes that are not in
// order of value.
inline constexpr std::array<float, 16> kNf4 = {-1.0f,
                                               -0.6961928009986877f,
                                               -0.5250730514526367f,
                                               -0.39491748809814453f,
                                               -0.28444138169288635f,
                                               -0.18477343022823334f,
                                               -0.09105003625154495f,
                                               0.0f,
                                               0.07958029955625534f,
                                               0.16093020141124725f,
                                               0.24611230194568634f,
                                               0.33791524171829224f,
                                               0.44070982933044434f,
                                               0.5626170039176941f,
                                               0.7229568362236023f,
                                               1.0f};
inline constexpr std::array<float, 16> kFp4 = {
    0.0f,  0.0625f / 12,  8.0f / 12,  1.0f,  4.0f / 12,  6.0f / 12,  2.0f / 12,  3.0f / 12,
    -0.0f, -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12};

inline const std::array<float, 16>& float_table(FloatBlocks::Table table) {
  return table == FloatBlocks::Table::nf4 ? kNf4 : kFp4;
}

}  // namespace qwb
