// GPTQ on the rows of a module (lib/exec/cpu/gptq_solver.h): a warp works on a row, whose columns
// of the block at work lie in its lanes' registers.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/row_warps.cuh"
#include "lib/exec/range_search.h"

namespace qwb::cuda {
namespace {

template <class T>
__global__ void permute_kernel(const T* from, int64_t stride, const int32_t* index, T* to,
                               int64_t columns) {
  const int64_t row = blockIdx.y, p = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (p < columns) to[row * columns + p] = from[row * stride + index[p]];
}

__global__ void difference_kernel(RowsAtWork w, int64_t first, int64_t count) {
  const int64_t row = blockIdx.y, c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t at = row * w.columns + first + c;
  if (c < count) w.difference[at] = w.aim[at] - w.target[at];
}

// The values of a row that a group covers: in registers, or read again and again.
template <bool Held>
struct GroupValues {
  const float* row;
  const int32_t* positions;
  int64_t first, count;
  float held[kPerLane], weights[kPerLane];

  __device__ int64_t position(int64_t i) const {
    return positions != nullptr ? positions[i] : first + i;
  }
  __device__ void load(const float* importance, int lane) {
    if constexpr (Held) {
#pragma unroll
      for (int c = 0; c < kPerLane; ++c) {
        const int64_t i = lane + 32 * c;
        held[c] = i < count ? row[position(i)] : 0.0f;
        weights[c] = i < count ? importance[position(i)] : 0.0f;
      }
    }
  }
  // body(value, importance) for every value of the lane.
  template <class Body>
  __device__ void each(const float* importance, int lane, const Body& body) const {
    if constexpr (Held) {
#pragma unroll
      for (int c = 0; c < kPerLane; ++c) body(held[c], weights[c]);
    } else {
      for (int64_t i = lane; i < count; i += 32) body(row[position(i)], importance[position(i)]);
    }
  }
};

template <bool Held>
__global__ void __launch_bounds__(kWarps * 32)
    choose_kernel(RowsAtWork w, const float* values, const int32_t* positions, int64_t first,
                  int64_t count, int64_t group) {
  const int lane = threadIdx.x % 32;
  const int64_t row = item_of_warp();
  if (row >= w.rows) return;
  GroupValues<Held> own{values + row * w.columns, positions, first, count, {}, {}};
  own.load(w.importance, lane);
  float low = 0, high = 0;
  own.each(w.importance, lane,
           [&](float value, float) { low = smaller(low, value), high = larger(high, value); });
  low = min_of_warp(low), high = max_of_warp(high);
  // A lane makes two of the candidates.
  RowGrid made[2];
  const int tried = w.search != 0 ? kRangeFactors : 1;
  for (int half = 0; half < 2; ++half) {
    const int candidate = lane + 32 * half;
    const float factor = range_factor(candidate < tried ? candidate : 0);
    float exact = 0;
    made[half] = grid_of_range(low * factor, high * factor, w.grid, &exact);
    if (!made[half].fits) atomicMax(w.overflow, bits_of_float(exact));
  }
  const float most = static_cast<float>(max_code(w.grid));
  float best = 0, scale = 1, zero = 0;
  for (int candidate = 0; candidate < tried; ++candidate) {
    const RowGrid mine = candidate < 32 ? made[0] : made[1];
    const float s = __shfl_sync(kAllLanes, mine.scale, candidate % 32);
    const float z = __shfl_sync(kAllLanes, mine.zero, candidate % 32);
    float error = 0;
    if (w.search != 0) {
      const float inverse = smaller(1 / s, 3.402823466e+38f);
      own.each(w.importance, lane, [&](float value, float weight) {
        const float rounded = nearest_even(smaller(larger(value * inverse, -z), most - z));
        const float difference = fmaf(-rounded, s, value);
        error = fmaf(weight, difference * difference, error);
      });
      error = sum_of_warp(error);
    }
    if (candidate > 0 && !(error < best)) continue;
    best = error, scale = s, zero = z;
  }
  if (lane == 0) w.scale[row * w.groups + group] = scale, w.zero[row * w.groups + group] = zero;
}

__global__ void __launch_bounds__(kWarps * 32)
    solve_kernel(RowsAtWork w, int64_t origin, int begin, int end, int length,
                 const float* inverse) {
  extern __shared__ float u[];
  load_square(inverse, u);
  const int lane = threadIdx.x % 32;
  const int64_t row = item_of_warp();
  if (row >= w.rows) return;
  const int64_t at = row * w.columns + origin;
  float target[kPerLane], aim[kPerLane], scale[kPerLane], zero[kPerLane], moved[kPerLane];
  int code[kPerLane];
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int j = lane + 32 * c;
    target[c] = j < length ? w.target[at + j] : 0.0f;
    aim[c] = scale[c] = zero[c] = moved[c] = 0, code[c] = 0;
    if (j < begin || j >= end) continue;
    aim[c] = w.aim[at + j];
    const int64_t group = row * w.groups + w.group_of[origin + j];
    scale[c] = w.scale[group], zero[c] = w.zero[group];
  }
  const float most = static_cast<float>(max_code(w.grid));
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int from = begin > 32 * c ? begin - 32 * c : 0,
              to = end < 32 * c + 32 ? end - 32 * c : 32;
    for (int owner = from; owner < to; ++owner) {
      const int p = 32 * c + owner;
      const float value = __shfl_sync(kAllLanes, target[c], owner);
      const float s = __shfl_sync(kAllLanes, scale[c], owner);
      const float z = __shfl_sync(kAllLanes, zero[c], owner);
      const float rounded = rounded_step(value, s, z, most);
      const float quantized = rounded * s;
      const float* factors = u + p * kBlockColumns;
      const float error = (value - quantized) / factors[p];
      if (lane == owner) moved[c] = aim[c] - quantized, code[c] = static_cast<int>(rounded + z);
#pragma unroll
      for (int k = c; k < kPerLane; ++k) {
        const int j = lane + 32 * k;
        if (j > p) target[k] = fmaf(-error, factors[j], target[k]);
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int j = lane + 32 * c;
    if (j >= begin && j < end) {
      w.difference[at + j] = moved[c];
      w.codes[at + j] = static_cast<unsigned char>(code[c]);
    } else if (j >= end && j < length) {
      w.target[at + j] = target[c];
    }
  }
}

// A warp for a group of a row.
__global__ void plain_kernel(ConstView weight, const float* aim, GridShape grid, RoundedRow made,
                             int64_t groups, uint32_t* overflow) {
  const int lane = threadIdx.x % 32;
  const int64_t item = item_of_warp();
  if (item >= weight.rows * groups) return;
  const auto [row, begin, end] = group_of_row(item, groups, weight.columns, grid.group);
  const float* from = weight.data + row * weight.stride;
  const RowGrid own = covering_grid(from + begin, end - begin, grid, lane, overflow);
  const float most = static_cast<float>(max_code(grid));
  for (int64_t c = begin + lane; c < end; c += 32) {
    const float rounded = rounded_step(from[c], own.scale, own.zero, most);
    const int64_t at = row * weight.columns + c;
    made.codes[at] = static_cast<unsigned char>(static_cast<int>(rounded + own.zero));
    made.difference[at] = aim[at] - rounded * own.scale;
  }
  if (lane == 0) made.scale[item] = own.scale, made.zero[item] = own.zero;
}

__global__ void take_rows_kernel(int64_t columns, int64_t groups, const unsigned char* marks,
                                 RoundedRow other, RoundedRow made) {
  const int64_t row = blockIdx.x;
  if (marks[row] == 0) return;
  for (int64_t c = row * columns + threadIdx.x; c < (row + 1) * columns; c += blockDim.x)
    made.codes[c] = other.codes[c], made.difference[c] = other.difference[c];
  for (int64_t g = row * groups + threadIdx.x; g < (row + 1) * groups; g += blockDim.x)
    made.scale[g] = other.scale[g], made.zero[g] = other.zero[g];
}

__global__ void row_sums_kernel(ConstView weight, const float* aim, const float* difference,
                                const double* mean_of_weight, const double* mean_of_value,
                                double* sums) {
  __shared__ double shared[32];
  const int64_t row = blockIdx.x;
  double error = 0, norm = 0, mean = 0;
  for (int64_t c = threadIdx.x; c < weight.columns; c += blockDim.x) {
    const int64_t at = row * weight.columns + c;
    const double w = weight.data[row * weight.stride + c];
    const double value = static_cast<double>(aim[at] - difference[at]);
    error += (w - value) * (w - value);
    norm += w * w;
    if (mean_of_weight != nullptr) mean += w * mean_of_weight[c];
    if (mean_of_value != nullptr) mean -= value * mean_of_value[c];
  }
  error = sum_of_block(error, shared);
  norm = sum_of_block(norm, shared);
  mean = sum_of_block(mean, shared);
  if (threadIdx.x == 0) sums[3 * row] = error, sums[3 * row + 1] = norm, sums[3 * row + 2] = mean;
}

}  // namespace

int permute(Queue* queue, ConstView from, const int32_t* index, View to) {
  if (to.rows * to.columns == 0) return 0;
  permute_kernel<<<values_grid(to.rows, to.columns), 256, 0, queue->stream>>>(
      from.data, from.stride, index, to.data, to.columns);
  return launched();
}

int permute_codes(Queue* queue, int64_t rows, int64_t columns, const unsigned char* from,
                  const int32_t* index, unsigned char* to) {
  if (rows * columns == 0) return 0;
  permute_kernel<<<values_grid(rows, columns), 256, 0, queue->stream>>>(from, columns, index, to,
                                                                        columns);
  return launched();
}

int set_difference(Queue* queue, RowsAtWork rows, int64_t first, int64_t count) {
  if (rows.rows * count == 0) return 0;
  difference_kernel<<<values_grid(rows.rows, count), 256, 0, queue->stream>>>(rows, first, count);
  return launched();
}

int choose_grids(Queue* queue, RowsAtWork rows, const float* values, const int32_t* positions,
                 int64_t first, int64_t count, int64_t group) {
  const unsigned blocks = warps_of(rows.rows);
  if (count <= kBlockColumns) {
    choose_kernel<true>
        <<<blocks, kWarps * 32, 0, queue->stream>>>(rows, values, positions, first, count, group);
  } else {
    choose_kernel<false>
        <<<blocks, kWarps * 32, 0, queue->stream>>>(rows, values, positions, first, count, group);
  }
  return launched();
}

int solve_columns(Queue* queue, RowsAtWork rows, int64_t block, int64_t begin, int64_t end,
                  const float* inverse) {
  const int64_t origin = block * kBlockColumns;
  if (const int code = allow_shared(solve_kernel, kSquareBytes); code != 0) return code;
  solve_kernel<<<warps_of(rows.rows), kWarps * 32, kSquareBytes, queue->stream>>>(
      rows, origin, static_cast<int>(begin - origin), static_cast<int>(end - origin),
      block_length(rows.columns, origin), inverse + block * kBlockColumns * kBlockColumns);
  return launched();
}

int round_plainly(Queue* queue, ConstView weight, const float* aim, GridShape grid, RoundedRow made,
                  uint32_t* overflow) {
  const int64_t groups = (weight.columns + grid.group - 1) / grid.group;
  plain_kernel<<<warps_of(weight.rows * groups), kWarps * 32, 0, queue->stream>>>(
      weight, aim, grid, made, groups, overflow);
  return launched();
}

int take_rows(Queue* queue, int64_t rows, int64_t columns, int64_t groups,
              const unsigned char* marks, RoundedRow other, RoundedRow made) {
  take_rows_kernel<<<static_cast<unsigned>(rows), 256, 0, queue->stream>>>(columns, groups, marks,
                                                                           other, made);
  return launched();
}

int row_sums(Queue* queue, ConstView weight, const float* aim, const float* difference,
             const double* mean_of_weight, const double* mean_of_value, double* sums) {
  row_sums_kernel<<<static_cast<unsigned>(weight.rows), 256, 0, queue->stream>>>(
      weight, aim, difference, mean_of_weight, mean_of_value, sums);
  return launched();
}

}  // namespace qwb::cuda
