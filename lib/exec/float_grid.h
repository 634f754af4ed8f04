// Grids whose points are floats of eight or four bits instead of integers (GridSettings::points):
// FP8, NVFP4, MXFP4. w' = point(code) * scale; there are no zero points. Rounding is to the nearest
// point, ties to the even code; beyond the largest point it saturates.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "lib/exec/cpu/rounding.h"
#include "lib/exec/grid.h"

namespace qwb {

struct FloatPoints {
  float largest;
  float least_normal;
  float step;  // of a mantissa, as a share of the power of two
  int mantissa_bits, bias;
};
inline constexpr FloatPoints kE2m1Points = {6, 1, 0.5f, 1, 1};
inline constexpr FloatPoints kE4m3Points = {448, 0x1p-6f, 0.125f, 3, 7};
inline const FloatPoints& float_points(GridPoints points) {
  return points == GridPoints::e2m1 ? kE2m1Points : kE4m3Points;
}

// The nearest point of a finite x.
inline float nearest_point(float x, const FloatPoints& points) {
  const float held = std::min(std::max(x, -points.largest), points.largest);
  const float magnitude = std::max(std::fabs(held), points.least_normal);
  const float power = std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) & 0x7f800000u);
  const float step = power * points.step;
  return round_even(held / step) * step;
}
// Its code; the sign is the highest bit. -0 has the code of 0.
inline uint8_t point_code(float point, const FloatPoints& points) {
  const float magnitude = std::fabs(point);
  const auto code = magnitude < points.least_normal
                        ? static_cast<uint32_t>(magnitude / (points.least_normal * points.step))
                        : (std::bit_cast<uint32_t>(magnitude) >> (23 - points.mantissa_bits)) -
                              (static_cast<uint32_t>(127 - points.bias) << points.mantissa_bits);
  const uint32_t sign = points.mantissa_bits == 1 ? 8 : 128;
  return static_cast<uint8_t>(point < 0 ? code | sign : code);
}
float point_value(uint8_t code, GridPoints points);

// The scale that a group with this largest magnitude gets without a search, as it is stored: f32
// and E4M3 cover it; E8M0 lets the upper eighth of an octave saturate (from 7 times the scale up
// the next power of two is taken), as llm-compressor and Quark do. 0 gives 1.
float covering_scale(float largest, const GridSettings& settings);
// The stored scale nearest to this one, which is positive.
float nearest_scale(float scale, const GridSettings& settings);
// What a search tries besides: candidate 0 is the covering one. All cover a range between half and
// about twice.
int float_scale_candidates(const GridSettings& settings);
float float_scale_candidate(float largest, int candidate, const GridSettings& settings);
// The code of a stored scale of eight bits.
uint8_t scale_code(float scale, const GridSettings& settings);

void round_to_points(const float* values, int64_t count, float scale, GridPoints points,
                     uint8_t* codes);

}  // namespace qwb
