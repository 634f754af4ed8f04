// What the kernels of solvers share: a warp for a row, and a square of 128 x 128 in shared memory.
#pragma once

#include "lib/exec/cuda/queue.cuh"
#include "lib/exec/cuda/rounding.h"

namespace qwb::cuda {

constexpr int kWarps = 16;  // rows of a block
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kPerLane = kBlockColumns / 32;  // columns of a block of 128: lane, lane + 32, ...
constexpr int kSquareBytes = kBlockColumns * kBlockColumns * 4;

__device__ inline float min_of_warp(float value) {
  for (int step = 16; step > 0; step /= 2)
    value = smaller(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}
__device__ inline float max_of_warp(float value) {
  for (int step = 16; step > 0; step /= 2)
    value = larger(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

// By all threads of a block.
__device__ inline void load_square(const float* from, float* shared) {
  constexpr int kFours = kBlockColumns * kBlockColumns / 4;
  for (int i = threadIdx.x; i < kFours; i += blockDim.x)
    reinterpret_cast<float4*>(shared)[i] = reinterpret_cast<const float4*>(from)[i];
  __syncthreads();
}

// The row, or another item, that the thread's warp works on; beyond the last: none.
__device__ inline int64_t item_of_warp() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
}
// Blocks for so many items.
inline unsigned warps_of(int64_t items) {
  return blocks_of(items, kWarps);
}
// A thread for each value of some rows, fewer than a grid's second side (cuda_rows_together).
inline dim3 values_grid(int64_t rows, int64_t columns) {
  return {blocks_of(columns, 256), static_cast<unsigned>(rows), 1};
}

// Columns of the block of a row that begins at `origin`.
__host__ __device__ inline int block_length(int64_t columns, int64_t origin) {
  const int64_t left = columns - origin;
  return static_cast<int>(left < kBlockColumns ? left : kBlockColumns);
}

// Item `item` of all groups of all rows.
struct GroupOfRow {
  int64_t row, begin, end;  // columns
};
__host__ __device__ inline GroupOfRow group_of_row(int64_t item, int64_t groups, int64_t columns,
                                                   int64_t size) {
  const int64_t begin = item % groups * size;
  return {item / groups, begin, begin + size < columns ? begin + size : columns};
}

// The grid of a warp's values that covers them.
__device__ inline RowGrid covering_grid(const float* values, int64_t count, const GridShape& shape,
                                        int lane, uint32_t* overflow) {
  float low = 0, high = 0;
  for (int64_t c = lane; c < count; c += 32)
    low = smaller(low, values[c]), high = larger(high, values[c]);
  low = min_of_warp(low), high = max_of_warp(high);
  float exact = 0;
  const RowGrid grid = grid_of_range(low, high, shape, &exact);
  if (!grid.fits && lane == 0) atomicMax(overflow, bits_of_float(exact));
  return grid;
}

}  // namespace qwb::cuda
