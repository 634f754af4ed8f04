#include <algorithm>
#include <cmath>

#include "lib/exec/cpu/calibration.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {

void to_half_rows(const float* values, int64_t rows, int64_t columns, std::byte* halves,
                  float* scales) {
  for (int64_t r = 0; r < rows; ++r, values += columns) {
    const float largest = simd::max_magnitude(values, columns);
    int exponent = 0;
    if (largest > 0) std::frexp(largest, &exponent);
    const int shift = std::clamp(exponent - 15, -100, 100);
    scales[r] = std::ldexp(1.0f, shift);
    simd::to_f16(values, columns, std::ldexp(1.0f, -shift), halves + r * columns * 2);
  }
}

void from_half_rows(const std::byte* halves, const float* scales, int64_t rows, int64_t columns,
                    float* values) {
  for (int64_t r = 0; r < rows; ++r)
    simd::from_f16(halves + r * columns * 2, columns, scales[r], values + r * columns);
}

}  // namespace qwb
