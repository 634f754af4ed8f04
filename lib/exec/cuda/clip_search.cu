// AWQ's search for the range of one group of up to 128 columns, in every row: all moves of a
// pass in one launch. A warp works on R rows, a lane on four columns of each; H_gg lies in shared
// memory. A row's sums go over k in ascending order, whatever R.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/row_warps.cuh"
#include "lib/exec/range_search.h"

namespace qwb::cuda {
namespace {

constexpr int kSearchWarps = 4;

template <int R>
struct RowsOfGroup {
  float values[R][4], old[R][4], cross[R][4];
  float least[R], largest[R];
  double best[R];
  int64_t row[R];
  int low[R], high[R];  // the best so far
  bool fixed[R], there[R];
};

// product = d H_gg of R rows, k ascending; `mine` [R][128] is the warp's own.
template <int R>
__device__ void times_own(const float* square, float* mine, const float (&d)[R][4], int lane,
                          float (&product)[R][4]) {
  __syncwarp();
#pragma unroll
  for (int r = 0; r < R; ++r)
    *reinterpret_cast<float4*>(mine + r * kBlockColumns + 4 * lane) =
        make_float4(d[r][0], d[r][1], d[r][2], d[r][3]);
  __syncwarp();
#pragma unroll
  for (int r = 0; r < R; ++r) product[r][0] = product[r][1] = product[r][2] = product[r][3] = 0;
  for (int k = 0; k < kBlockColumns; k += 4) {
    float left[R][4];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float4 four = *reinterpret_cast<const float4*>(mine + r * kBlockColumns + k);
      left[r][0] = four.x, left[r][1] = four.y, left[r][2] = four.z, left[r][3] = four.w;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 h =
          *reinterpret_cast<const float4*>(square + (k + i) * kBlockColumns + 4 * lane);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        product[r][0] = fmaf(left[r][i], h.x, product[r][0]);
        product[r][1] = fmaf(left[r][i], h.y, product[r][1]);
        product[r][2] = fmaf(left[r][i], h.z, product[r][2]);
        product[r][3] = fmaf(left[r][i], h.w, product[r][3]);
      }
    }
  }
}

__device__ double cost_of(const float (&d)[4], const float (&product)[4], const float (&cross)[4]) {
  double cost = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    cost += static_cast<double>(d[i]) *
            (static_cast<double>(product[i]) + 2 * static_cast<double>(cross[i]));
  return sum_of_warp(cost);
}

__device__ RowGrid shrunk_grid(const ClipRows& w, float least, float largest, int low, int high,
                               int lane) {
  float exact = 0;
  const RowGrid grid =
      grid_of_range(least * shrink_factor(low), largest * shrink_factor(high), w.grid, &exact);
  if (!grid.fits && lane == 0) atomicMax(w.overflow, bits_of_float(exact));
  return grid;
}

template <int R>
__device__ void begin_search(const ClipRows& w, const ClipGroup& g, const ConstView& product,
                             int64_t first_row, int lane, RowsOfGroup<R>& own) {
#pragma unroll
  for (int r = 0; r < R; ++r) {
    own.there[r] = first_row + r < w.rows;
    own.row[r] = own.there[r] ? first_row + r : w.rows - 1;
    own.fixed[r] = !own.there[r] || own.row[r] < w.fixed;
    const int64_t chosen = own.row[r] * w.groups + g.group;
    own.low[r] = w.chosen.low[chosen], own.high[r] = w.chosen.high[chosen];
    const int64_t at = own.row[r] * w.columns + g.first;
    const float* products = product.data + own.row[r] * product.stride + g.first;
    own.least[r] = own.largest[r] = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int c = 4 * lane + i;
      const bool inside = c < g.count;
      own.values[r][i] = inside ? w.weight[at + c] : 0.0f;
      own.old[r][i] = inside ? w.difference[at + c] : 0.0f;
      own.cross[r][i] = inside ? products[c] : 0.0f;
      own.least[r] = smaller(own.least[r], own.values[r][i]);
      own.largest[r] = larger(own.largest[r], own.values[r][i]);
    }
    own.least[r] = min_of_warp(own.least[r]), own.largest[r] = max_of_warp(own.largest[r]);
  }
}

template <int R>
__device__ void end_search(const ClipRows& w, const ClipGroup& g, int lane,
                           const RowsOfGroup<R>& own) {
  const float most = static_cast<float>(max_code(w.grid));
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (!own.there[r]) continue;
    const int64_t chosen = own.row[r] * w.groups + g.group, at = own.row[r] * w.columns + g.first;
    const bool moved = own.low[r] != w.chosen.low[chosen] || own.high[r] != w.chosen.high[chosen];
    const RowGrid grid =
        shrunk_grid(w, own.least[r], own.largest[r], own.low[r], own.high[r], lane);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int c = 4 * lane + i;
      if (c >= g.count) continue;
      const float rounded = rounded_step(own.values[r][i], grid.scale, grid.zero, most);
      const float difference = own.values[r][i] - rounded * grid.scale;
      g.candidate[own.row[r] * g.count + c] = moved ? difference - own.old[r][i] : 0.0f;
      if (!moved) continue;
      w.codes[at + c] = static_cast<unsigned char>(static_cast<int>(rounded + grid.zero));
      w.difference[at + c] = difference;
    }
    if (!moved || lane != 0) continue;
    w.scale[chosen] = grid.scale, w.zero[chosen] = grid.zero;
    w.chosen.low[chosen] = own.low[r], w.chosen.high[chosen] = own.high[r];
  }
}

template <int R>
__global__ void __launch_bounds__(kSearchWarps * 32)
    search_kernel(const __grid_constant__ ClipRows w, const __grid_constant__ ClipGroup g,
                  ConstView product, ConstView square_of, const __grid_constant__ ShrinkMoves moves,
                  int pass) {
  extern __shared__ __align__(16) float square[];  // H_gg, then the differences of each warp
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float* mine = square + kBlockColumns * kBlockColumns + warp * R * kBlockColumns;
  for (int i = threadIdx.x; i < kBlockColumns * kBlockColumns; i += blockDim.x) {
    const int k = i / kBlockColumns, c = i % kBlockColumns;
    square[i] = k < g.count && c < g.count ? square_of.data[k * square_of.stride + c] : 0.0f;
  }
  __syncthreads();
  RowsOfGroup<R> own;
  begin_search(w, g, product, (static_cast<int64_t>(blockIdx.x) * kSearchWarps + warp) * R, lane,
               own);
  float made[R][4];
  times_own<R>(square, mine, own.old, lane, made);
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int i = 0; i < 4; ++i) own.cross[r][i] -= made[r][i];
    own.best[r] = cost_of(own.old[r], made[r], own.cross[r]);
  }
  const float most = static_cast<float>(max_code(w.grid));
  for (int m = 0; m < moves.count; ++m) {
    float d[R][4];
    int low[R], high[R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t chosen = own.row[r] * w.groups + g.group;
      low[r] = moved_end(w.chosen.low[chosen], moves.low[m], pass, w.widest[own.row[r]]);
      high[r] = moved_end(w.chosen.high[chosen], moves.high[m], pass, w.widest[own.row[r]]);
      const RowGrid grid =
          own.fixed[r] ? RowGrid{}
                       : shrunk_grid(w, own.least[r], own.largest[r], low[r], high[r], lane);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        d[r][i] = own.fixed[r] ? 0.0f
                               : own.values[r][i] -
                                     rounded_step(own.values[r][i], grid.scale, grid.zero, most) *
                                         grid.scale;
    }
    times_own<R>(square, mine, d, lane, made);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const double cost = cost_of(d[r], made[r], own.cross[r]);
      if (own.fixed[r] || !(cost < own.best[r])) continue;
      own.best[r] = cost, own.low[r] = low[r], own.high[r] = high[r];
    }
  }
  end_search(w, g, lane, own);
}

template <int R>
int launch_search(Queue* queue, const ClipRows& rows, const ClipGroup& group,
                  const ConstView& product, const ConstView& own, const ShrinkMoves& moves,
                  int pass) {
  constexpr int kShared = kSquareBytes + kSearchWarps * R * kBlockColumns * 4;
  if (const int code = allow_shared(search_kernel<R>, kShared); code != 0) return code;
  search_kernel<R>
      <<<blocks_of(rows.rows, kSearchWarps * R), kSearchWarps * 32, kShared, queue->stream>>>(
          rows, group, product, own, moves, pass);
  return launched();
}

}  // namespace

int clip_search(Queue* queue, ClipRows rows, ClipGroup group, ConstView product, ConstView own,
                const ShrinkMoves* moves, int pass) {
  if (group.count > kBlockColumns) return cudaErrorInvalidValue;
  // Rows by themselves where there are too few of them for all processors.
  return rows.rows <= 2048 ? launch_search<1>(queue, rows, group, product, own, *moves, pass)
                           : launch_search<4>(queue, rows, group, product, own, *moves, pass);
}

}  // namespace qwb::cuda
