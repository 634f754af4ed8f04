// Arithmetic on the host's memory: weights alone.
#include "lib/exec/grid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/half.h"
#include "lib/base/json.h"
#include "lib/exec/cpu/rounding.h"
#include "lib/exec/float_grid.h"

namespace qwb {

float stored_scale(float scale, DType type, const std::string& module) {
  if (scale == 0) return 1;
  float stored = scale;
  if (type == DType::f16) {
    uint16_t bits = f32_to_f16(scale);
    if (scale < 0x1p-14f && f16_to_f32(bits) < scale) ++bits;
    stored = f16_to_f32(bits);
  } else if (type == DType::bf16) {
    uint16_t bits = f32_to_bf16(scale);
    if (scale < std::numeric_limits<float>::min() && bf16_to_f32(bits) < scale) ++bits;
    stored = bf16_to_f32(bits);
  }
  if (!std::isfinite(stored)) {
    throw Error(
        ErrorKind::failed,
        "a scale of " + Json(scale).dump() + " does not fit " + std::string(dtype_name(type)),
        module, "use --scale-dtype bf16 or f32, or leave this module unquantized");
  }
  return stored;
}

Grid make_grid(float low, float high, const GridSettings& settings, const std::string& module) {
  if (settings.points != GridPoints::integers)
    return {covering_scale(std::max(-low, high), settings), 0};
  const int half = 1 << (settings.bits - 1);
  const float span = settings.symmetric ? std::max(-low, high) : high - low;
  const auto steps = static_cast<float>(settings.symmetric ? half - 1 : settings.max_code());
  float exact = span / steps;
  if (span > 0 && exact == 0) exact = std::numeric_limits<float>::denorm_min();
  Grid grid;
  grid.scale = stored_scale(exact, settings.scale_dtype, module);
  if (settings.symmetric) {
    grid.zero = half;
  } else {
    const float zero = std::clamp(-low / grid.scale, 0.0f, static_cast<float>(settings.max_code()));
    grid.zero = static_cast<int>(round_even(zero));
  }
  return grid;
}

Grid make_grid(const float* values, int64_t count, const GridSettings& settings,
               const std::string& module) {
  const Extremes range = extremes(values, count);
  return make_grid(range.low, range.high, settings, module);
}

void round_to_grid(const float* values, int64_t count, const Grid& grid, int max_code,
                   uint8_t* codes) {
  round_to_steps(values, count, grid.scale, grid.zero, max_code, codes);
}

void rounding_difference(const float* weight, int64_t columns, const float* scales,
                         const GridSettings& settings, const std::string& module,
                         float* difference) {
  std::vector<uint8_t> codes(static_cast<size_t>(settings.group_size));
  std::vector<float> scaled(static_cast<size_t>(settings.group_size));
  for (int64_t begin = 0; begin < columns; begin += settings.group_size) {
    const int64_t count = std::min(settings.group_size, columns - begin);
    std::copy_n(weight + begin, count, scaled.data());
    for (int64_t i = 0; scales != nullptr && i < count; ++i) scaled[i] *= scales[begin + i];
    const Grid grid = make_grid(scaled.data(), count, settings, module);
    round_to_grid(scaled.data(), count, grid, settings.max_code(), codes.data());
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      difference[begin + i] = scaled[at] - grid_value(codes[at], grid);
    }
    for (int64_t i = begin; scales != nullptr && i < begin + count; ++i) difference[i] /= scales[i];
  }
}

}  // namespace qwb
