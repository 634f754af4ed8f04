#include "lib/quantize/activations.h"

#include <algorithm>
#include <cmath>

#include "lib/kernels/simd.h"

namespace qwb {

HalfRows::HalfRows(int64_t rows, int64_t columns)
    : columns_(columns), halves_(checked_mul(rows, columns * 2, "activations")), scales_(rows) {}

int64_t HalfRows::bytes() const {
  return halves_.size() + scales_.size() * static_cast<int64_t>(sizeof(float));
}

void HalfRows::store(int64_t first_row, int64_t rows, const float* values) {
  for (int64_t r = 0; r < rows; ++r, values += columns_) {
    const float largest = simd::max_magnitude(values, columns_);
    int exponent = 0;
    if (largest > 0) std::frexp(largest, &exponent);
    const int shift = std::clamp(exponent - 15, -100, 100);
    scales_[first_row + r] = std::ldexp(1.0f, shift);
    simd::to_f16(values, columns_, std::ldexp(1.0f, -shift), halves_.data() + (first_row + r) * columns_ * 2);
  }
}

void HalfRows::load(int64_t first_row, int64_t rows, float* values) const {
  for (int64_t r = 0; r < rows; ++r, values += columns_) {
    simd::from_f16(halves_.data() + (first_row + r) * columns_ * 2, columns_, values);
    simd::dequantize_group(values, columns_, 0.0f, scales_[first_row + r]);
  }
}

}  // namespace qwb
