// What the calibration pipeline keeps of every token between two stages of a block.
#pragma once

#include <cstdint>

#include "lib/tensor/tensor.h"

namespace qwb {

// Rows of activations in 16 bits: f16 after division by a power of two per row that brings the largest
// magnitude below 2^15, so that no row overflows and every value keeps 11 significant bits (relative rounding
// 2^-12; the quantization that follows errs by 10^-2 and more).
class HalfRows {
 public:
  HalfRows(int64_t rows, int64_t columns);
  void store(int64_t first_row, int64_t rows, const float* values);
  void load(int64_t first_row, int64_t rows, float* values) const;
  int64_t bytes() const;

 private:
  int64_t columns_;
  AlignedBuffer halves_;
  FloatBuffer scales_;
};

}  // namespace qwb
