// Integer grids as lib/exec/grid.h makes them, one value at a time, for the GPU and, so that tests
// can compare them bit by bit, for the host too.
#pragma once

#include "lib/exec/cuda/calibration_interface.h"
#include "lib/exec/cuda/decode.h"

#if !defined(__CUDACC__)
#include "lib/base/half.h"
#endif

namespace qwb::cuda {

QWB_BOTH uint32_t bits_of_float(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

QWB_BOTH uint16_t to_f16(float value) {
#if defined(__CUDACC__)
  return __half_as_ushort(__float2half_rn(value));
#else
  return f32_to_f16(value);
#endif
}
// Of finite values.
QWB_BOTH uint16_t to_bf16_bits(float value) {
  const uint32_t bits = bits_of_float(value);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

QWB_BOTH float larger(float a, float b) {
  return a < b ? b : a;
}
QWB_BOTH float smaller(float a, float b) {
  return b < a ? b : a;
}
// |x| < 2^22
QWB_BOTH float nearest_even(float x) {
  constexpr float kNoFraction = 12582912.0f;
  return (x + kNoFraction) - kNoFraction;
}

QWB_BOTH int max_code(const GridShape& grid) {
  return (1 << grid.bits) - 1;
}

// qwb::stored_scale; infinite if it does not fit.
QWB_BOTH float scale_as_stored(float scale, Number number) {
  if (scale == 0) return 1;
  if (number == Number::f16) {
    uint16_t bits = to_f16(scale);
    if (scale < 6.103515625e-05f && from_f16(bits) < scale) ++bits;  // 2^-14
    return from_f16(bits);
  }
  if (number == Number::bf16) {
    uint32_t bits = to_bf16_bits(scale);
    if (scale < 1.17549435e-38f && float_of_bits(bits << 16) < scale) ++bits;
    return float_of_bits(bits << 16);
  }
  return scale;
}

struct RowGrid {
  float scale, zero;
  bool fits;
};
// qwb::make_grid
QWB_BOTH RowGrid grid_of_range(float low, float high, const GridShape& shape, float* exact_scale) {
  const int half = 1 << (shape.bits - 1);
  const float span = shape.symmetric != 0 ? larger(-low, high) : high - low;
  float exact = span / static_cast<float>(shape.symmetric != 0 ? half - 1 : max_code(shape));
  if (span > 0 && exact == 0) exact = float_of_bits(1);
  RowGrid grid;
  grid.scale = scale_as_stored(exact, shape.scales);
  grid.fits = grid.scale < float_of_bits(0x7f800000u);
  *exact_scale = exact;
  if (shape.symmetric != 0) {
    grid.zero = static_cast<float>(half);
  } else {
    const float most = static_cast<float>(max_code(shape));
    grid.zero = nearest_even(smaller(larger(-low / grid.scale, 0.0f), most));
  }
  return grid;
}

// The code less the zero point.
QWB_BOTH float rounded_step(float value, float scale, float zero, float most) {
  return nearest_even(smaller(larger(value / scale, -zero), most - zero));
}

}  // namespace qwb::cuda
