// The innermost part of a tile product: a block of 32 by 32 sums in the registers of one unit.
#pragma once

#include "lib/kernels/tile_panels.h"

namespace qwb {

constexpr int64_t kBlock = 2 * kTileLines;

// Two panels of each operand from some step on.
struct BlockOperands {
  const uint16_t *a0, *a1, *b0, *b1;
};

struct TileUnit {
  const char* name;
  // Steps after which the sums go to memory, so that the panels of B stay in the first cache meanwhile.
  int64_t steps;
  void (*begin)();  // once a thread before its blocks, and after them
  void (*end)();
  // c [32, 32] (stride in floats) = the products over `steps` tiles, or c plus these.
  void (*block)(const BlockOperands& operands, int64_t steps, float* c, int64_t stride, bool add);
};

// Null where this processor or system does not have it.
const TileUnit* amx_unit();
const TileUnit* avx512_bf16_unit();
const TileUnit* plain_unit();

}  // namespace qwb
