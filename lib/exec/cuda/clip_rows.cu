// Rounding and clipping of AWQ's rows (lib/exec/cpu/clip_rows.h), a group of all rows at a time: a
// warp works on a row.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/row_warps.cuh"
#include "lib/exec/range_search.h"

namespace qwb::cuda {
namespace {

__global__ void rounded_kernel(ConstView weight, const float* scales, GridShape grid, View made,
                               int64_t groups, uint32_t* overflow) {
  const int lane = threadIdx.x % 32;
  const int64_t item = item_of_warp();
  if (item >= weight.rows * groups) return;
  const auto [row, begin, end] = group_of_row(item, groups, weight.columns, grid.group);
  const float* from = weight.data + row * weight.stride;
  float* to = made.data + row * made.stride;
  for (int64_t c = begin + lane; c < end; c += 32)
    to[c] = scales != nullptr ? from[c] * scales[c] : from[c];
  __syncwarp();
  const RowGrid own = covering_grid(to + begin, end - begin, grid, lane, overflow);
  const float most = static_cast<float>(max_code(grid));
  for (int64_t c = begin + lane; c < end; c += 32) {
    const float difference = to[c] - rounded_step(to[c], own.scale, own.zero, most) * own.scale;
    to[c] = scales != nullptr ? difference / scales[c] : difference;
  }
}

__global__ void scale_columns_kernel(View x, const float* scales) {
  const int64_t row = blockIdx.y, c = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (c < x.columns) x.data[row * x.stride + c] *= scales[c];
}

// A row's group under a shrink. candidate: its differences go there, and nothing else is kept.
__device__ void round_shrunk(const ClipRows& w, int64_t row, int64_t group, int low, int high,
                             int lane, float* candidate) {
  const int64_t first = group * w.grid.group;
  const int64_t left = w.columns - first, count = w.grid.group < left ? w.grid.group : left;
  const float* from = w.weight + row * w.columns + first;
  float least = 0, largest = 0;
  for (int64_t c = lane; c < count; c += 32)
    least = smaller(least, from[c]), largest = larger(largest, from[c]);
  least = min_of_warp(least), largest = max_of_warp(largest);
  float exact = 0;
  const RowGrid grid =
      grid_of_range(least * shrink_factor(low), largest * shrink_factor(high), w.grid, &exact);
  if (!grid.fits && lane == 0) atomicMax(w.overflow, bits_of_float(exact));
  const float most = static_cast<float>(max_code(w.grid));
  const int64_t at = row * w.columns + first;
  for (int64_t c = lane; c < count; c += 32) {
    const float rounded = rounded_step(from[c], grid.scale, grid.zero, most);
    const float difference = from[c] - rounded * grid.scale;
    if (candidate != nullptr) {
      candidate[row * count + c] = difference;
      continue;
    }
    w.codes[at + c] = static_cast<unsigned char>(static_cast<int>(rounded + grid.zero));
    w.difference[at + c] = difference;
  }
  if (candidate == nullptr && lane == 0) {
    w.scale[row * w.groups + group] = grid.scale, w.zero[row * w.groups + group] = grid.zero;
    w.chosen.low[row * w.groups + group] = low, w.chosen.high[row * w.groups + group] = high;
  }
}

__global__ void set_kernel(ClipRows w, int64_t group, const int* low, const int* high) {
  const int64_t row = item_of_warp();
  if (row >= w.rows) return;
  round_shrunk(w, row, group, low != nullptr ? low[row] : 0, high != nullptr ? high[row] : 0,
               threadIdx.x % 32, nullptr);
}

__global__ void begin_kernel(ClipRows w, ClipGroup g, ConstView product) {
  const int64_t row = blockIdx.y, c = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (c >= g.count) return;
  g.candidate[row * g.count + c] = w.difference[row * w.columns + g.first + c];
  g.cross[row * g.count + c] = product.data[row * product.stride + g.first + c];
}

__global__ void try_kernel(ClipRows w, ClipGroup g, int low, int high, int pass) {
  const int64_t row = item_of_warp();
  if (row >= w.rows || row < w.fixed) return;
  const int64_t at = row * w.groups + g.group;
  round_shrunk(w, row, g.group, moved_end(w.chosen.low[at], low, pass, w.widest[row]),
               moved_end(w.chosen.high[at], high, pass, w.widest[row]), threadIdx.x % 32,
               g.candidate);
}

__global__ void judge_kernel(ClipRows w, ClipGroup g, int low, int high, int pass, int first) {
  const int lane = threadIdx.x % 32;
  const int64_t row = item_of_warp();
  if (row >= w.rows || (first == 0 && row < w.fixed)) return;
  double cost = 0;
  for (int64_t c = lane; c < g.count; c += 32) {
    const int64_t at = row * g.count + c;
    cost += static_cast<double>(g.candidate[at]) *
            (static_cast<double>(g.product[at]) + 2 * static_cast<double>(g.cross[at]));
  }
  cost = sum_of_warp(cost);
  if (lane != 0) return;
  const int64_t at = row * w.groups + g.group;
  if (first != 0) {
    g.best[row] = cost, g.found.low[row] = w.chosen.low[at], g.found.high[row] = w.chosen.high[at];
  } else if (cost < g.best[row]) {
    g.best[row] = cost;
    g.found.low[row] = moved_end(w.chosen.low[at], low, pass, w.widest[row]);
    g.found.high[row] = moved_end(w.chosen.high[at], high, pass, w.widest[row]);
  }
}

__global__ void change_kernel(ClipRows w, ClipGroup g) {
  const int lane = threadIdx.x % 32;
  const int64_t row = item_of_warp();
  if (row >= w.rows) return;
  const int64_t at = row * w.columns + g.first, chosen = row * w.groups + g.group;
  for (int64_t c = lane; c < g.count; c += 32)
    g.candidate[row * g.count + c] = -w.difference[at + c];
  __syncwarp();
  if (w.chosen.low[chosen] != g.found.low[row] || w.chosen.high[chosen] != g.found.high[row])
    round_shrunk(w, row, g.group, g.found.low[row], g.found.high[row], lane, nullptr);
  __syncwarp();
  for (int64_t c = lane; c < g.count; c += 32)
    g.candidate[row * g.count + c] += w.difference[at + c];
}

}  // namespace

int rounded_difference(Queue* queue, ConstView weight, const float* scales, GridShape grid,
                       View difference, uint32_t* overflow) {
  const int64_t groups = (weight.columns + grid.group - 1) / grid.group;
  rounded_kernel<<<warps_of(weight.rows * groups), kWarps * 32, 0, queue->stream>>>(
      weight, scales, grid, difference, groups, overflow);
  return launched();
}

int scale_columns(Queue* queue, View x, const float* scales) {
  if (x.rows * x.columns == 0) return 0;
  scale_columns_kernel<<<values_grid(x.rows, x.columns), 256, 0, queue->stream>>>(x, scales);
  return launched();
}

int clip_set(Queue* queue, ClipRows rows, int64_t group, const int* low, const int* high) {
  set_kernel<<<warps_of(rows.rows), kWarps * 32, 0, queue->stream>>>(rows, group, low, high);
  return launched();
}

int clip_begin(Queue* queue, ClipRows rows, ClipGroup group, ConstView product) {
  begin_kernel<<<values_grid(rows.rows, group.count), 256, 0, queue->stream>>>(rows, group,
                                                                               product);
  return launched();
}

int clip_try(Queue* queue, ClipRows rows, ClipGroup group, int low, int high, int pass) {
  try_kernel<<<warps_of(rows.rows), kWarps * 32, 0, queue->stream>>>(rows, group, low, high, pass);
  return launched();
}

int clip_judge(Queue* queue, ClipRows rows, ClipGroup group, int low, int high, int pass,
               int first) {
  judge_kernel<<<warps_of(rows.rows), kWarps * 32, 0, queue->stream>>>(rows, group, low, high, pass,
                                                                       first);
  return launched();
}

int clip_change(Queue* queue, ClipRows rows, ClipGroup group) {
  change_kernel<<<warps_of(rows.rows), kWarps * 32, 0, queue->stream>>>(rows, group);
  return launched();
}

}  // namespace qwb::cuda
