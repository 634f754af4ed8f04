// Products of stored rows with f32 vectors in one pass: codes become floats in registers, never in
// memory. What decoding spends its time on (decoding.md has the bounds and what was tried). All of
// it runs in the calling thread. Weights are as stored, activations and sums f32; the order of the
// sums depends on the packing and the instruction set alone, not on how many rows or vectors are
// multiplied together.
#pragma once

#include <cstdint>

#include "lib/base/bytes.h"

namespace qwb::simd {

// How the codes of a row lie.
//   f32, f16, bf16   plain values · int8: signed bytes, one scale a row
//   gridN            bit stream of N-bit codes, least significant bit first; code - zero
//   nibbles          two codes a byte, the first in the high half; a table's value
//   q4_0 .. iq4_xs   ggml's blocks (formats/gguf/gguf.md)
enum class Packing {
  f32,
  f16,
  bf16,
  int8,
  grid2,
  grid3,
  grid4,
  grid5,
  grid6,
  grid7,
  grid8,
  nibbles,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  iq4_nl,
  mxfp4,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_xs,
};
inline constexpr int kPackings = static_cast<int>(Packing::iq4_xs) + 1;

// Scales [rows, groups] that lie apart from the codes, as they are stored.
struct PackedScales {
  enum class Form { none, f16, bf16, f32, nested };
  Form form = Form::none;
  Bytes values;
  // nested: values are bytes b, scale = map[b] * outer[index / outer_block] + offset; both f32,
  // aligned
  const float* map = nullptr;
  const float* outer = nullptr;
  int64_t outer_block = 1;
  float offset = 0;
  float factor = 1;  // int8: scale = value * factor
  // Zero points, a bit stream a row, or null: 2^(bits - 1).
  const std::byte* zeros = nullptr;
  int64_t zeros_stride = 0;
};

// Rows to multiply: row r at codes + r * stride.
struct PackedRows {
  Packing packing;
  const std::byte* codes;
  int64_t stride;   // bytes
  int64_t columns;  // whole blocks of ggml's types
  // Columns that share a scale; the last group may be shorter. For the grids and nibbles a multiple
  // of packed_run(), all columns, or `scattered`.
  int64_t group = 0;
  PackedScales scales = {};
  const float* table = nullptr;  // nibbles: 16 values
  // Grids whose groups are not runs of whole words: the group of every column, i32, or null: column
  // / group.
  bool scattered = false;
  const std::byte* group_index = nullptr;
  // The result of row r is output row_of(r): ggml's interleaved heads (lib/codec/ggml_blocks.h).
  int64_t head_rows = 0;
  int64_t row_of(int64_t r) const {
    if (head_rows == 0) return r;
    const int64_t within = r % head_rows;
    return r - within + within % 2 * (head_rows / 2) + within / 2;
  }
};
// Groups are whole words of codes: what a group's size must be a multiple of.
int64_t packed_run(Packing packing);

// Kernels take the activations in the order in which they unpack the codes: column
// packed_column(packing, i) of every packed_columns(packing) stands at i, zeros beyond the row.
int64_t packed_columns(Packing packing);
int64_t packed_column(Packing packing, int64_t position);
// Columns whose sums a kernel needs besides, 0: none.
int64_t packed_sums(const PackedRows& rows);
// Instead the sums of every lane over so many steps of the arranged activations, 0: none.
int64_t packed_word_sums(Packing packing);
// Lanes of the vectors in use, 4 to 16, or 1: there are no kernels, rows must be unpacked.
int64_t packed_lanes();
// Kernels read whole vectors of scales and sums: so many floats must follow the last one.
constexpr int64_t kPackedPadding = 16;

// One vector, arranged; for the grids and nibbles with the groups of every lane of every chunk of
// packed_columns: lane j's scale is number first[chunk] + within[chunk * lanes + j].
struct PackedInput {
  const float* x;
  const float* sums;
  const int32_t* first;
  const int32_t* within;
  const int32_t* groups;  // scattered: of every column, arranged
};

// Rows [begin, end) times vectors.
struct PackedTask {
  int64_t begin, end;
  const PackedInput* inputs;
  int64_t vectors;
  float* y;  // y[v * y_stride + row - begin]
  int64_t y_stride;
  float* scratch;  // packed_scratch(rows) floats
};
int64_t packed_scratch(const PackedRows& rows);
void packed_dot(const PackedRows& rows, const PackedTask& task);

}  // namespace qwb::simd
