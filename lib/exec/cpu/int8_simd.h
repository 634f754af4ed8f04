// Vector kernels of int8_product.h, compiled for every instruction set like those of simd.h. Rows
// are padded with zeros to a multiple of kInt8Padding, so there are no tails. Each runs in the
// calling thread.
#pragma once

#include <cstdint>

namespace qwb::simd {

constexpr int64_t kInt8Padding = 64;

// x = x rounded to f16, ties to even; magnitudes that f16 has not (from 65520), infinities and NaN
// stay.
void round_to_f16(float* x, int64_t padded);
// Largest |x[i]| below the threshold (0: of all), NaN if there is a NaN; marks[i] = ~0 where |x[i]|
// reaches it.
float int8_absmax(const float* x, int64_t padded, float threshold, int32_t* marks);
// codes = x * factor rounded to integers, ties to even, within -127 .. 127.
void int8_codes(const float* x, int64_t padded, float factor, int16_t* codes);
// out = in, and zeros from `count` to `padded`.
void widen_int8(const int8_t* in, int64_t count, int64_t padded, int16_t* out);

// sums[4 * t + r] += sum of a[t * stride_a + i] * b[r * stride_b + i]: 3 tokens, 4 outputs.
void int8_tile(const int16_t* a, int64_t stride_a, const int16_t* b, int64_t stride_b,
               int64_t padded, int32_t* sums, int64_t stride_sums);
// The same for 1 token.
void int8_row(const int16_t* a, const int16_t* b, int64_t stride_b, int64_t padded, int32_t* sums);
// The same from bytes in place; `count` need not be padded, nothing beyond it is read of b.
void int8_row_in_place(const int16_t* a, const int8_t* const b[4], int64_t count, int32_t* sums);

// out[j] += sum over c of x[c] * w[c * kInt8Panel + j], c ascending, products and sums rounded one
// by one.
constexpr int64_t kInt8Panel = 64;
void int8_outliers(const float* x, int64_t count, const float* w, float* out);

}  // namespace qwb::simd
