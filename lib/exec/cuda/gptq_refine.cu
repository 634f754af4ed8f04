// Coordinate descent over finished codes, and scales refitted to them (lib/exec/cpu/gptq_refine.h):
// a warp works on a row.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/row_warps.cuh"

namespace qwb::cuda {
namespace {

__global__ void __launch_bounds__(kWarps * 32)
    descend_kernel(RowsAtWork w, int64_t origin, int length, const float* diagonal, float* gradient,
                   int* changed) {
  extern __shared__ float h[];
  load_square(diagonal, h);
  const int lane = threadIdx.x % 32;
  const int64_t row = item_of_warp();
  if (row >= w.rows) return;
  const int64_t at = row * w.columns + origin;
  float slope[kPerLane], difference[kPerLane], aim[kPerLane], scale[kPerLane], zero[kPerLane];
  int code[kPerLane];
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int j = lane + 32 * c;
    slope[c] = gradient[row * kBlockColumns + j];
    difference[c] = aim[c] = zero[c] = 0, scale[c] = 1, code[c] = 0;
    if (j >= length) continue;
    difference[c] = w.difference[at + j], aim[c] = w.aim[at + j], code[c] = w.codes[at + j];
    const int64_t group = row * w.groups + w.group_of[origin + j];
    scale[c] = w.scale[group], zero[c] = w.zero[group];
  }
  const float most = static_cast<float>(max_code(w.grid));
  bool any = false;
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int to = length < 32 * c + 32 ? length - 32 * c : 32;
    for (int owner = 0; owner < to; ++owner) {
      const int p = 32 * c + owner;
      const float* factors = h + p * kBlockColumns;
      float moved = 0;
      if (lane == owner) {
        const float value = aim[c] - difference[c];
        const float best = value + slope[c] / factors[p];
        const float rounded = rounded_step(best, scale[c], zero[c], most);
        const int now = static_cast<int>(rounded + zero[c]);
        if (now != code[c]) moved = rounded * scale[c] - value;
        code[c] = now;
        difference[c] -= moved;
      }
      moved = __shfl_sync(kAllLanes, moved, owner);
      if (moved == 0) continue;
      any = true;
#pragma unroll
      for (int k = 0; k < kPerLane; ++k) slope[k] = fmaf(-factors[lane + 32 * k], moved, slope[k]);
    }
  }
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int j = lane + 32 * c;
    gradient[row * kBlockColumns + j] = slope[c];
    if (j >= length) continue;
    w.difference[at + j] = difference[c];
    w.codes[at + j] = static_cast<unsigned char>(code[c]);
  }
  if (any && lane == 0) *changed = 1;
}

// A row's scale to the lowest point of its parabola; 0: it stays. The same in every lane.
__device__ float moved_scale(const RowsAtWork& w, float now, double slope, double curvature,
                             float* made) {
  if (!(curvature > 0)) return 0;
  const auto wanted = static_cast<float>(static_cast<double>(now) + slope / curvature);
  if (!(wanted > 0)) return 0;
  const float scale = scale_as_stored(wanted, w.grid.scales);
  if (!(scale < float_of_bits(0x7f800000u))) {
    atomicMax(w.overflow, bits_of_float(wanted));
    return 0;
  }
  const double step = static_cast<double>(scale) - static_cast<double>(now);
  if (!(step * (step * curvature - 2 * slope) < 0)) return 0;
  *made = scale;
  return static_cast<float>(step);
}

__global__ void __launch_bounds__(kWarps * 32)
    refit_kernel(RowsAtWork w, int64_t origin, int begin, int end, const float* diagonal,
                 float* gradient, int* changed) {
  extern __shared__ float h[];
  load_square(diagonal, h);
  const int lane = threadIdx.x % 32;
  const int64_t row = item_of_warp();
  if (row >= w.rows) return;
  const int64_t at = row * w.columns + origin;
  const int64_t group = row * w.groups + w.group_of[origin + begin];
  const float scale = w.scale[group], zero = w.zero[group];
  float steps[kPerLane], slope[kPerLane], product[kPerLane];
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int j = lane + 32 * c;
    const bool inside = j >= begin && j < end;
    steps[c] = inside ? static_cast<float>(w.codes[at + j]) - zero : 0.0f;
    slope[c] = gradient[row * kBlockColumns + j];
    product[c] = 0;
  }
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int from = begin > 32 * c ? begin - 32 * c : 0,
              to = end < 32 * c + 32 ? end - 32 * c : 32;
    for (int owner = from; owner < to; ++owner) {
      const float step = __shfl_sync(kAllLanes, steps[c], owner);
      const float* factors = h + (32 * c + owner) * kBlockColumns;
#pragma unroll
      for (int k = 0; k < kPerLane; ++k)
        product[k] = fmaf(factors[lane + 32 * k], step, product[k]);
    }
  }
  double linear = 0, curvature = 0;
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    linear += static_cast<double>(steps[c]) * static_cast<double>(slope[c]);
    curvature += static_cast<double>(steps[c]) * static_cast<double>(product[c]);
  }
  float made = scale;
  const float change = moved_scale(w, scale, sum_of_warp(linear), sum_of_warp(curvature), &made);
  if (change == 0) return;
  if (lane == 0) w.scale[group] = made, *changed = 1;
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int j = lane + 32 * c;
    gradient[row * kBlockColumns + j] = fmaf(-change, product[c], slope[c]);
    if (j >= begin && j < end) w.difference[at + j] = w.aim[at + j] - steps[c] * made;
  }
}

__global__ void steps_kernel(RowsAtWork w, int64_t begin, int64_t end, float* steps) {
  const int64_t row = blockIdx.y, p = begin + static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (p >= end) return;
  const int64_t at = row * w.columns + p;
  steps[at] = static_cast<float>(w.codes[at]) - w.zero[row * w.groups + w.group_of[begin]];
}

__global__ void slopes_kernel(RowsAtWork w, const float* steps, GroupColumns columns,
                              const float* gradient, const float* product, Parabolas sums) {
  const int lane = threadIdx.x % 32;
  const int64_t row = item_of_warp(), origin = columns.block * kBlockColumns;
  if (row >= w.rows) return;
  double linear = 0, square = 0;
  for (int64_t p = columns.begin + lane; p < columns.end; p += 32) {
    const double step = steps[row * w.columns + p];
    linear += step * static_cast<double>(gradient[row * kBlockColumns + p - origin]);
    square += step * static_cast<double>(product[row * kBlockColumns + p - origin]);
  }
  linear = sum_of_warp(linear), square = sum_of_warp(square);
  if (lane == 0) sums.slope[row] += linear, sums.curvature[row] += square;
}

__global__ void move_kernel(RowsAtWork w, const float* steps, int64_t begin, int64_t end,
                            Parabolas sums, int* changed) {
  const int lane = threadIdx.x % 32;
  const int64_t row = item_of_warp();
  if (row >= w.rows) return;
  const int64_t group = row * w.groups + w.group_of[begin];
  const float scale = w.scale[group];
  float made = scale;
  if (moved_scale(w, scale, sums.slope[row], sums.curvature[row], &made) == 0) return;
  __syncwarp();
  if (lane == 0) w.scale[group] = made, *changed = 1;
  for (int64_t p = begin + lane; p < end; p += 32) {
    const int64_t at = row * w.columns + p;
    w.difference[at] = w.aim[at] - steps[at] * made;
  }
}

}  // namespace

int descend(Queue* queue, RowsAtWork rows, int64_t block, const float* diagonal, float* gradient,
            int* changed) {
  const int64_t origin = block * kBlockColumns;
  if (const int code = allow_shared(descend_kernel, kSquareBytes); code != 0) return code;
  descend_kernel<<<warps_of(rows.rows), kWarps * 32, kSquareBytes, queue->stream>>>(
      rows, origin, block_length(rows.columns, origin), diagonal + origin * kBlockColumns, gradient,
      changed);
  return launched();
}

int refit_inside(Queue* queue, RowsAtWork rows, GroupColumns columns, const float* diagonal,
                 float* gradient, int* changed) {
  const int64_t origin = columns.block * kBlockColumns;
  if (const int code = allow_shared(refit_kernel, kSquareBytes); code != 0) return code;
  refit_kernel<<<warps_of(rows.rows), kWarps * 32, kSquareBytes, queue->stream>>>(
      rows, origin, static_cast<int>(columns.begin - origin),
      static_cast<int>(columns.end - origin), diagonal + origin * kBlockColumns, gradient, changed);
  return launched();
}

int group_steps(Queue* queue, RowsAtWork rows, int64_t begin, int64_t end, float* steps) {
  const dim3 grid = values_grid(rows.rows, end - begin);
  steps_kernel<<<grid, 256, 0, queue->stream>>>(rows, begin, end, steps);
  return launched();
}

int add_slopes(Queue* queue, RowsAtWork rows, const float* steps, GroupColumns columns,
               const float* gradient, const float* product, Parabolas sums) {
  slopes_kernel<<<warps_of(rows.rows), kWarps * 32, 0, queue->stream>>>(rows, steps, columns,
                                                                        gradient, product, sums);
  return launched();
}

int move_scales(Queue* queue, RowsAtWork rows, const float* steps, int64_t begin, int64_t end,
                Parabolas sums, int* changed) {
  move_kernel<<<warps_of(rows.rows), kWarps * 32, 0, queue->stream>>>(rows, steps, begin, end, sums,
                                                                      changed);
  return launched();
}

}  // namespace qwb::cuda
