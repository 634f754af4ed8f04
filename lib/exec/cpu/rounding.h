// Rounding of runs of weights. The vector kernels run in the calling thread; their codes are those
// of the plain formulas, on every instruction set.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

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
void round_to_steps(const float* values, int64_t count, float scale, int zero, int max_code,
                    uint8_t* codes);
// codes[i] = round(values[i] * factor), within -128 .. 127
void round_to_int8(const float* values, int64_t count, float factor, int8_t* codes);
// The nearest of sixteen points by rank, which is how many of the ascending bounds are below a
// value of -1 to 1. A branch-free binary search of four steps finds it: the first compares with the
// middle bound, each of the others with one of a table, chosen by the results so far. Where vectors
// have sixteen lanes and bounds lie far enough from each other (nf4), two steps do: the range is
// cut into 16 bins, and a bin has the rank of its lowest values and at most two bounds inside.
// Tables are as long as a vector.
struct Ranking {
  using Points = std::array<float, 16>;
  constexpr Ranking(const Points& points_by_rank, const std::array<uint8_t, 16>& codes_by_rank,
                    const std::array<float, 15>& ascending)
      : bounds(ascending), points(points_by_rank) {
    for (size_t i = 0; i < 16; ++i) codes[i] = codes_by_rank[i];
    for (size_t k = 0; k < 8; ++k) {
      last[k] = bounds[2 * k];
      if (k < 4) third[k] = bounds[4 * k + 1];
      if (k < 2) second[k] = bounds[8 * k + 3];
    }
    for (size_t bin = 0; bin < 16; ++bin) {
      lower[bin] = upper[bin] = std::numeric_limits<float>::infinity();
      int inside = 0;
      for (const float bound : bounds) {
        if (bin_of(bound) < bin) ++base[bin];
        if (bin_of(bound) != bin) continue;
        (++inside == 1 ? lower : upper)[bin] = bound;
        binned = binned && inside <= 2;
      }
    }
  }
  // Bins lie around the whole numbers that x * kBins + kMiddle is rounded to, for x from -1 to 1.
  static constexpr float kBins = 7.25f, kMiddle = 8;
  static constexpr size_t bin_of(float x) {
    return static_cast<size_t>(static_cast<double>(x) * kBins + kMiddle + 0.5);
  }
  bool binned = true;  // no bin has three bounds
  std::array<float, 15> bounds;
  alignas(64) Points points;
  alignas(64) Points second{}, third{}, last{};
  alignas(64) Points lower{}, upper{};
  alignas(64) std::array<int32_t, 16> base{}, codes{};
};
// Sums over values v that became points p times a scale, with e = v - scale p: they tell the error
// under any other scale without another look at the values.
struct PointSums {
  float error;  // of e^2
  float cross;  // of e p
  float norm;   // of v^2
  // The sum of (v - (scale - less) p)^2 = (e + less p)^2. That of p^2 follows from v = e + scale p.
  // No digits are lost: e is small against v.
  double error_with(double less, double scale) const {
    const double share = scale == 0 ? 0 : less / scale;
    return std::max(0.0,
                    error + 2 * less * cross + share * share * (norm - error - 2 * scale * cross));
  }
};
// Codes of values[i] * factor, -1 to 1, two to a byte, the first in the high nibble, and the sums
// for that scale, in f32 over short stretches. count is even.
PointSums rank_pairs(const float* values, int64_t count, float factor, float scale,
                     const Ranking& ranking, std::byte* packed);
// The same for whole blocks of `size` values (even), each with 1 / max(largest, least) as the
// factor and its largest magnitude as the scale.
struct RankedBlocks {
  float* largest;  // one a block, as are the sums
  std::byte* packed;
  PointSums* sums;
};
void rank_blocks(const float* values, int64_t blocks, int64_t size, float least,
                 const Ranking& ranking, const RankedBlocks& out);

// Errors of a run of weights, in f32 over short stretches: the last bits differ between instruction
// sets. quantized[i] = (codes[i] - zero) * scale
ErrorSum step_errors(const float* values, const uint8_t* codes, int64_t count, float scale,
                     int zero);
ErrorSum int8_errors(const float* values, const int8_t* codes, int64_t count, float scale);

}  // namespace qwb
