// The product of LLM.int8 (Dettmers et al. 2022, arXiv 2208.07339) with activations in 8 bits, as
// bitsandbytes defines it (int8_vectorwise_quant, int8_mixed_scaled_mm; pages: int8_product.md):
//
//   x' = x rounded to f16 (values beyond its range stay as they are)
//   outlier columns: those with |x'| >= threshold in any token of this call; none when the
//               threshold is 0
//   absmax[t] = largest |x'[t, i]| below the threshold
//   code[t, i] = round(x' * 127 / absmax[t]), ties to even; 0 in outlier columns
//   y[t, o] = sum_i code[t, i] * weight code[o, i]    exact, 32-bit integers
//             * absmax[t] * weight absmax[o] / 127^2 + bias[o]
//             + sum over outlier columns, ascending, of x[t, i] * w[o, i]    f32, w as dequantized
//
// The result has the same bits on any number of threads and any instruction set. A token with a
// NaN, or an infinity that is no outlier, gives NaN in its whole row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/threads.h"
#include "lib/codec/weight.h"
#include "lib/tensor/tensor.h"

namespace qwb {

constexpr float kInt8Threshold = 6.0f;  // of the paper, and what Transformers sets

// Activations [tokens, in] as the product takes them. Keeps a pointer to x.
class Int8Activations {
 public:
  // Throws usage for a threshold that is negative or not finite, unsupported for more than 2^31 /
  // (127 * 128) columns, whose sums could overflow.
  Int8Activations(const float* x, int64_t tokens, int64_t in, float threshold,
                  Threads threads = {});

  int64_t tokens() const { return tokens_; }
  int64_t in() const { return in_; }
  const float* values() const { return x_; }
  // Codes of a token, zeros up to padded(): -127 .. 127.
  const int16_t* codes(int64_t token) const {
    return reinterpret_cast<const int16_t*>(codes_.data()) + token * padded_;
  }
  int64_t padded() const { return padded_; }
  float absmax(int64_t token) const { return absmax_[token]; }
  // Outlier columns, ascending, and their values [tokens, outliers].
  std::span<const int32_t> outliers() const { return outliers_; }
  const float* outlier_values(int64_t token) const {
    return outlier_values_.data() + token * static_cast<int64_t>(outliers_.size());
  }

 private:
  void find_outliers(float threshold, Threads threads);
  void round(Threads threads);

  const float* x_;
  int64_t tokens_, in_, padded_;
  AlignedBuffer codes_;
  FloatBuffer absmax_;
  std::vector<int32_t> outliers_;
  FloatBuffer outlier_values_;
};

// Outputs [begin, end) of a weight in int8 rows.
struct Int8Outputs {
  const Weight& weight;
  int64_t begin, end;
  const float* bias = nullptr;  // [out], or null
};

// y [tokens, end - begin], rows of stride_y floats; plus what is there if `add`.
void int8_product(const Int8Activations& x, const Int8Outputs& outputs, float* y, int64_t stride_y,
                  bool add, Threads threads = {});

// The same for all outputs by plain loops from the definition above, the float part in f64.
void reference_int8_product(const float* x, int64_t tokens, const Weight& weight, float threshold,
                            const float* bias, float* y);

}  // namespace qwb
