// Dot products of stored rows with f32 vectors in one pass: codes become floats in registers, never
// in memory. What decoding spends its time on. Each runs in the calling thread; partial sums are
// f32, in lane order.
#pragma once

#include <cstdint>

#include "lib/base/bytes.h"

namespace qwb::simd {

// f16 bits, bf16 bits or signed bytes, from any alignment.
float dot_f16(const std::byte* row, const float* x, int64_t count);
float dot_bf16(const std::byte* row, const float* x, int64_t count);
float dot_int8(const std::byte* row, const float* x, int64_t count);

// A row whose runs of `group` columns share a scale: sum of scale * value(code) * x. count and
// group are multiples of 8 (the last group may be shorter).
struct GroupedRow {
  const std::byte* codes;
  int64_t count;
  int64_t group;
  const float* scales;  // one a group
};
// Whether dot_grid takes codes of so many bits.
bool dots_grid(int bits);
// Integer grid (bit stream, least significant bit first): value = code - zeros[group].
float dot_grid(const GroupedRow& row, int bits, const float* zeros, const float* x);
// Two codes a byte, the first in the high half: value = table[code], 16 floats.
float dot_table(const GroupedRow& row, const float* table, const float* x);

// ggml's blocks of 32 (lib/exec/cpu/simd.h); count is a multiple of 32.
float dot_q4_0(const std::byte* blocks, const float* x, int64_t count);
float dot_q4_1(const std::byte* blocks, const float* x, int64_t count);
float dot_q8_0(const std::byte* blocks, const float* x, int64_t count);

}  // namespace qwb::simd
