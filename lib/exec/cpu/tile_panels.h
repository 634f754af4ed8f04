// Operands of bf16 products in the order in which matrix units read them (Intel AMX, AVX512_BF16):
// tiles of 16 lines (rows of A, columns of B) by 32 values along the inner dimension, 1 KB each; a
// panel is the run of tiles of 16 lines. What lies beyond the edges of the matrix is zero.
#pragma once

#include <cstdint>

#include "lib/base/bytes.h"
#include "lib/base/threads.h"

namespace qwb {

constexpr int64_t kTileLines = 16;
constexpr int64_t kTileInner = 32;
constexpr int64_t kTileValues = kTileLines * kTileInner;

// left:  [16 lines][32 inner], the tiles of A.
// right: [16 pairs of inner][16 lines][2], the tiles of B: pairs are multiplied and added at once.
//        Seen as a square of 16 x 16 words of two values, one is the transpose of the other.
enum class TileForm { left, right };

// Panels that somebody else owns.
struct Panels {
  uint16_t* data = nullptr;
  int64_t steps = 0;  // tiles a panel

  uint16_t* tile(int64_t panel, int64_t step) const {
    return data + (panel * steps + step) * kTileValues;
  }
  // Those that begin at this line and inner value, multiples of 16 and 32.
  Panels from(int64_t line, int64_t inner) const {
    return {tile(line / kTileLines, inner / kTileInner), steps};
  }
};

// The panels of a matrix, in memory of at least panel_values() values.
inline Panels panels_at(uint16_t* data, int64_t inner) {
  return {data, ceil_div(inner, kTileInner)};
}
inline int64_t panel_values(int64_t lines, int64_t inner) {
  return ceil_div(lines, kTileLines) * ceil_div(inner, kTileInner) * kTileValues;
}

// How a matrix of `lines` by `inner` values is stored: values of a line side by side (by_line;
// stride from line to line), or values of equal inner index (stride from one to the next).
struct MatrixLayout {
  int64_t lines, inner, stride;
  bool by_line = true;
};

// Packs f32, rounded to nearest even, or bf16, on so many threads.
void pack_panels(const float* values, const MatrixLayout& layout, TileForm form, const Panels& out,
                 Threads threads = {});
void pack_panels(const uint16_t* values, const MatrixLayout& layout, TileForm form,
                 const Panels& out, Threads threads = {});
// Panels of one form in the other.
void turn_panels(const Panels& from, int64_t lines, const Panels& to, Threads threads = {});

// f32 to bf16.
void to_bf16(const float* values, int64_t count, uint16_t* out, Threads threads = {});

}  // namespace qwb
