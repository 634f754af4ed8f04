// Rounding of runs of weights. The vector kernels run in the calling thread; their codes are those of the
// plain formulas, on every instruction set.
#pragma once

#include <algorithm>
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
// The nearest of sixteen points by rank, which is how many of the ascending bounds are below the value.
struct Ranking {
  std::array<float, 15> bounds;
  std::array<float, 16> points;   // by rank
  std::array<uint8_t, 16> order;  // codes by rank
};
// Sums over values v that became points p times a scale, with e = v - scale p: they tell the error under any
// other scale without another look at the values.
struct PointSums {
  float error;  // of e^2
  float cross;  // of e p
  float norm;   // of v^2
  // The sum of (v - (scale - less) p)^2 = (e + less p)^2. That of p^2 follows from v = e + scale p. No digits
  // are lost: e is small against v.
  double error_with(double less, double scale) const {
    const double points = scale == 0 ? 0 : (norm - error - 2 * scale * cross) / (scale * scale);
    return std::max(0.0, error + less * (2 * cross + less * points));
  }
};
// Codes of values[i] * factor, two to a byte, the first in the high nibble, and the sums for that scale, in
// f32 over short stretches. count is even.
PointSums rank_pairs(const float* values, int64_t count, float factor, float scale, const Ranking& ranking,
                     std::byte* packed);

// Errors of a run of weights, in f32 over short stretches: the last bits differ between instruction sets.
// quantized[i] = (codes[i] - zero) * scale
ErrorSum step_errors(const float* values, const uint8_t* codes, int64_t count, float scale, int zero);
ErrorSum int8_errors(const float* values, const int8_t* codes, int64_t count, float scale);

}  // namespace qwb
