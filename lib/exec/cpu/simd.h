// Vector kernels, written once with Highway and compiled for every instruction set, dispatched at
// run time. Each runs in the calling thread.
#pragma once

#include <array>
#include <cstdint>

#include "lib/base/bytes.h"
#include "lib/exec/executor.h"

namespace qwb::simd {

// Sum of x[i] * y[i]; several partial sums in lane order.
float dot(const float* x, const float* y, int64_t count);
// y += a * x
void axpy(float a, const float* x, float* y, int64_t count);
void add(float* x, const float* y, int64_t count);
bool all_finite(const float* x, int64_t count);
void rms_norm(const float* x, int64_t n, const float* gain, float eps, float* y);
void layer_norm(const float* x, int64_t n, const float* gain, const float* bias, float eps,
                float* y);
// One head of one token: pairs (k, k + half).
void rotate(float* x, int64_t half, const float* cosine, const float* sine);
// x = act(x) * up, or act(x) when up is null.
void activate(Activation activation, float* x, const float* up, int64_t count);
// x[i] = exp(x[i] * scale - max) with max over the row; returns 1 / sum.
float softmax(float* x, int64_t count, float scale);
// x = cap tanh(x * scale / cap)
void soft_cap(float* x, int64_t count, float scale, float cap);
// Running log-sum-exp over slices of a row: updates `maximum` and `sum` (sum of exp(x - maximum) in
// f64 over the slices so far).
void accumulate_softmax(const float* x, int64_t count, float& maximum, double& sum);

// f16 bits, from any alignment, to f32 times factor; bf16 bits to f32.
void from_f16(const std::byte* in, int64_t count, float factor, float* out);
void from_bf16(const std::byte* in, int64_t count, float* out);
// f32 times factor to f16 bits, round to nearest even.
void to_f16(const float* in, int64_t count, float factor, std::byte* out);
// f32 to bf16 bits, round to nearest even; a NaN may become infinite.
void to_bf16(const float* in, int64_t count, std::byte* out);
// Largest |x[i]|; 0 for none.
float max_magnitude(const float* x, int64_t count);
// Codes of 2 to 8 bits (bit stream, least significant bit first, from a byte boundary) to f32.
void unpack(const std::byte* packed, int64_t count, int bits, float* out);
// x = (x - zero) * scale
void dequantize_group(float* x, int64_t count, float zero, float scale);
// (signed bytes times scale) times factor, in that order
void from_int8(const std::byte* in, int64_t count, float scale, float factor, float* out);
// table[code] * scale; code 2j in the high nibble of byte j, as bitsandbytes packs them.
void from_nibbles(const std::byte* packed, int64_t count, const std::array<float, 16>& table,
                  float scale, float* out);
// ggml's Q4_0 and Q4_1, `count` values in blocks of 32: d (f16), for Q4_1 m (f16), then 16 bytes
// with values
// 0..15 in the low halves, 16..31 in the high ones. (code - 8) * d; code * d + m.
void from_q4_0(const std::byte* blocks, int64_t count, float* out);
void from_q4_1(const std::byte* blocks, int64_t count, float* out);
// Q8_0: d (f16), then 32 signed bytes. code * d.
void from_q8_0(const std::byte* blocks, int64_t count, float* out);

}  // namespace qwb::simd
