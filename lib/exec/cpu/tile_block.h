// The innermost part of a tile product: a block of 32 by 32 sums in the registers of one unit.
#pragma once

#include "lib/exec/cpu/tile_panels.h"

namespace qwb {

constexpr int64_t kBlock = 2 * kTileLines;

// Two panels of each operand from some step on.
struct BlockOperands {
  const uint16_t *a0, *a1, *b0, *b1;
};

// Where sums lie, [32, 32] with `stride` floats from row to row.
struct BlockSums {
  float* c;
  int64_t stride;
  bool add;           // to what is there
  const float* next;  // the block that comes after it, which may be fetched already, or null
};

struct TileUnit {
  const char* name;
  // The most steps after which the sums go to memory, so that the panels of B stay near meanwhile.
  int64_t steps;
  void (*begin)();  // once a thread before its blocks, and after them
  void (*end)();
  void (*block)(const BlockOperands& operands, int64_t steps, const BlockSums& sums);
};

// Null where this processor or system does not have it.
const TileUnit* amx_unit();
const TileUnit* avx512_bf16_unit();
const TileUnit* plain_unit();

}  // namespace qwb
