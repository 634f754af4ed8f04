// Rounding of runs of weights. The vector kernels run in the calling thread; their codes are those of the
// plain formulas, on every instruction set.
#pragma once

#include <array>
#include <cstdint>

#include "lib/base/bytes.h"
#include "lib/tensor/error_sum.h"

namespace qwb {

// The nearest integer, ties to even, of |x| < 2^22.
inline float round_even(float x) {
  constexpr float kNoFraction = 0x1.8p23f;  // beyond it a float has no bits left for a fraction
  return (x + kNoFraction) - kNoFraction;
}

// The smallest and largest of the values and 0. Values are finite.
struct Extremes {
  float low = 0;
  float high = 0;
};
Extremes extremes(const float* values, int64_t count);

// codes[i] = round(clamp(values[i] / scale, -zero, max_code - zero)) + zero
void round_to_steps(const float* values, int64_t count, float scale, int zero, int max_code, uint8_t* codes);
// codes[i] = round(values[i] * factor), within -128 .. 127
void round_to_int8(const float* values, int64_t count, float factor, int8_t* codes);
// Codes of the nearest of sixteen values: order[how many of the bounds are below the value].
struct Ranking {
  std::array<float, 15> bounds;
  std::array<uint8_t, 16> order;
};
// Codes of values[i] * factor, two to a byte, the first in the high nibble. count is even.
void rank_pairs(const float* values, int64_t count, float factor, const Ranking& ranking, std::byte* packed);

// Errors of a run of weights, in f32 over short stretches: the last bits differ between instruction sets.
// quantized[i] = (codes[i] - zero) * scale
ErrorSum step_errors(const float* values, const uint8_t* codes, int64_t count, float scale, int zero);
ErrorSum int8_errors(const float* values, const int8_t* codes, int64_t count, float scale);
ErrorSum value_errors(const float* values, const float* quantized, int64_t count, float scale);

}  // namespace qwb
