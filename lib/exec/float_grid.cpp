// Arithmetic on the host's memory: weights alone.
#include "lib/exec/float_grid.h"

#include "lib/codec/minifloat.h"
#include "lib/exec/range_search.h"

namespace qwb {
namespace {

constexpr int kLargestE4m3Code = 0x7e;
// Eight codes of E4M3 are one power of two.
constexpr int kFinerE4m3 = 8, kCoarserE4m3 = 6;

// The exponents that E8M0 and f32's normal numbers have in common.
int held_exponent(int exponent) {
  return std::clamp(exponent, -126, 127);
}

int e4m3_scale_code(float scale, const GridSettings& settings) {
  const float held = nearest_point(std::min(scale * settings.outer, kLargestE4m3), kE4m3Points);
  return std::max<int>(point_code(held, kE4m3Points), 1);
}

int covering_exponent(float largest) {
  int exponent = 0;
  const float mantissa = std::frexp(largest, &exponent);  // 0.5 .. 1
  return exponent - 3 + (mantissa >= 0.875f ? 1 : 0);
}

}  // namespace

float point_value(uint8_t code, GridPoints points) {
  return points == GridPoints::e2m1 ? kE2m1[code & 15] : e4m3_value(code);
}

float covering_scale(float largest, const GridSettings& settings) {
  return float_scale_candidate(largest, 0, settings);
}

float nearest_scale(float scale, const GridSettings& settings) {
  if (settings.scale_dtype == DType::f8_e4m3)
    return e4m3_value(static_cast<uint8_t>(e4m3_scale_code(scale, settings))) / settings.outer;
  if (settings.scale_dtype != DType::f8_e8m0) return scale;
  int exponent = 0;
  const float mantissa = std::frexp(scale, &exponent);
  return std::ldexp(1.0f, held_exponent(exponent - (mantissa < 0.75f ? 1 : 0)));
}

int float_scale_candidates(const GridSettings& settings) {
  if (settings.scale_dtype == DType::f8_e8m0) return 3;
  return settings.scale_dtype == DType::f8_e4m3 ? 1 + kFinerE4m3 + kCoarserE4m3 : kRangeFactors;
}

float float_scale_candidate(float largest, int candidate, const GridSettings& settings) {
  const float top = float_points(settings.points).largest;
  if (settings.scale_dtype == DType::f8_e8m0) {
    const int moved = candidate == 2 ? 1 : -candidate;
    return largest == 0 ? 1.0f
                        : std::ldexp(1.0f, held_exponent(covering_exponent(largest) + moved));
  }
  if (settings.scale_dtype == DType::f8_e4m3) {
    if (largest == 0) return 1 / settings.outer;
    const int moved = candidate <= kFinerE4m3 ? -candidate : candidate - kFinerE4m3;
    const int code =
        std::clamp(e4m3_scale_code(largest / top, settings) + moved, 1, kLargestE4m3Code);
    return e4m3_value(static_cast<uint8_t>(code)) / settings.outer;
  }
  const float scale = largest / top * range_factor(candidate);
  return scale > std::numeric_limits<float>::min() ? scale
         : largest == 0                            ? 1
                                                   : std::numeric_limits<float>::min();
}

uint8_t scale_code(float scale, const GridSettings& settings) {
  if (settings.scale_dtype == DType::f8_e8m0)
    return static_cast<uint8_t>(std::bit_cast<uint32_t>(scale) >> 23);
  return static_cast<uint8_t>(e4m3_scale_code(scale, settings));
}

void round_to_points(const float* values, int64_t count, float scale, GridPoints points,
                     uint8_t* codes) {
  const FloatPoints& known = float_points(points);
  for (int64_t i = 0; i < count; ++i)
    codes[i] = point_code(nearest_point(values[i] / scale, known), known);
}

}  // namespace qwb
