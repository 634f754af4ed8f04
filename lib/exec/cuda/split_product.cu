// c = a b^T for many rows on tensor cores: a (the rows) is split into three bf16, b (the weight)
// into as many as its values need (tensor_cores.cuh). Of the products of parts those are left out
// that are below 2^-26 of the whole. Sums: 32 columns by tensor cores, smallest parts first, then
// f32 in ascending order. A value's sum does not depend on how many rows or columns c has.
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/tensor_cores.cuh"

namespace qwb::cuda {
namespace {

constexpr int kTile = 128;            // rows and columns of c that a block makes
constexpr int kDepth = kPartColumns;  // of a and b, in shared memory at a time, twice
constexpr int kThreads = 256;
constexpr int kPartsOfX = 3;
constexpr int kPlane = kTile * kDepth * 2;  // bytes

__global__ void split_kernel(ConstView x, Parts to) {
  const int64_t pairs = to.columns / 2, plane = to.rows * to.columns;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= x.rows * pairs) return;
  const int64_t row = i / pairs, column = i % pairs * 2;
  const float* at = x.data + row * x.stride + column;
  uint32_t parts[3];
  split_pair(column < x.columns ? at[0] : 0.0f, column + 1 < x.columns ? at[1] : 0.0f, parts);
#pragma unroll
  for (int p = 0; p < kPartsOfX; ++p) {
    if (p < to.count)
      *reinterpret_cast<uint32_t*>(to.data + p * plane + row * to.columns + column) = parts[p];
  }
}

__device__ void fetch(const Parts& x, int64_t first, int64_t k, int part, uint32_t plane) {
  const uint16_t* data = x.data + part * x.rows * x.columns;
#pragma unroll
  for (int i = 0; i < kTile * kDepth / 8 / kThreads; ++i) {
    const int at = threadIdx.x + i * kThreads, row = at / 4, chunk = at % 4;
    const bool there = first + row < x.rows;
    copy_later(plane + spot_of_row(row, chunk),
               data + (there ? first + row : 0) * x.columns + k + 8 * chunk, there);
  }
}

// Of columns 16 k ... of a plane: the fragment of 16 rows, and those of four times 8.
__device__ void read_a(uint32_t plane, int row, int k, int lane, uint32_t (&a)[4]) {
  read_matrices<false>(plane + spot_of_row(row + lane % 16, 2 * k + lane / 16), a[0], a[1], a[2],
                       a[3]);
}
__device__ void read_b(uint32_t plane, int row, int k, int lane, uint32_t (&b)[4][2]) {
#pragma unroll
  for (int j = 0; j < 4; j += 2) {
    const int at = row + 8 * j + lane / 16 * 8 + lane % 8;
    read_matrices<false>(plane + spot_of_row(at, 2 * k + lane / 8 % 2), b[j][0], b[j][1],
                         b[j + 1][0], b[j + 1][1]);
  }
}

// A warp makes 64 x 32 values of c: 4 x 4 tiles.
template <int PartsOfW>
struct WarpSums {
  float sums[4][4][4] = {};

  // One slice of kDepth columns: all products of small parts, then those of the first ones, so that
  // little is cut off.
  __device__ void add(uint32_t a_planes, uint32_t b_planes, int row, int column, int lane,
                      const float (&scales)[4][2]) {
    float slice[4][4][4] = {};
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t b[PartsOfW][4][2];
#pragma unroll
      for (int p = 0; p < PartsOfW; ++p) read_b(b_planes + p * kPlane, column, k, lane, b[p]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t a[kPartsOfX][4];
#pragma unroll
        for (int p = 0; p < kPartsOfX; ++p)
          read_a(a_planes + p * kPlane, row + 16 * i, k, lane, a[p]);
#pragma unroll
        for (int order = kPartsOfX - 1; order > 0; --order) {
#pragma unroll
          for (int p = 0; p < PartsOfW && p <= order; ++p) {
#pragma unroll
            for (int j = 0; j < 4; ++j)
              multiply_tile(slice[i][j], a[order - p], b[p][j][0], b[p][j][1]);
          }
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t a[4], b[4][2];
      read_b(b_planes, column, k, lane, b);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        read_a(a_planes, row + 16 * i, k, lane, a);
#pragma unroll
        for (int j = 0; j < 4; ++j) multiply_tile(slice[i][j], a, b[j][0], b[j][1]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          sums[i][j][c] = PartsOfW == 1 ? fmaf(scales[j][c % 2], slice[i][j][c], sums[i][j][c])
                                        : sums[i][j][c] + slice[i][j][c];
        }
      }
    }
  }
};

// The scales of a group for the channels of this lane's sums, from its first one on.
__device__ void load_scales(const Parts& b, int64_t channel, int64_t group, float (&scales)[4][2]) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int64_t at = channel + 8 * j + c;
      scales[j][c] = b.scales == nullptr ? 1.0f
                     : at < b.rows       ? b.scales[at * b.groups + group]
                                         : 0.0f;
    }
  }
}

// From the first row and channel of this lane's sums on.
template <int PartsOfW>
__device__ void write_sums(const WarpSums<PartsOfW>& made, int64_t row, int64_t channel,
                           const float* bias, const View& c, int add) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t r = row + 16 * i + e / 2 * 8, o = channel + 8 * j + e % 2;
        if (r >= c.rows || o >= c.columns) continue;
        const float sum = bias != nullptr ? made.sums[i][j][e] + bias[o] : made.sums[i][j][e];
        float* to = c.data + r * c.stride + o;
        *to = add != 0 ? *to + sum : sum;
      }
    }
  }
}

template <int PartsOfW>
__global__ void __launch_bounds__(kThreads, 1)
    split_product_kernel(Parts a, Parts b, const float* bias, View c, int add) {
  extern __shared__ __align__(128) unsigned char shared[];
  constexpr uint32_t kStage = (kPartsOfX + PartsOfW) * kPlane;
  const auto planes = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kTile,
                first_column = static_cast<int64_t>(blockIdx.y) * kTile;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp % 2 * 64, column = warp / 2 * 32;
  const auto fetch_all = [&](int64_t k, uint32_t stage) {
#pragma unroll
    for (int p = 0; p < kPartsOfX; ++p) fetch(a, first_row, k, p, stage + p * kPlane);
#pragma unroll
    for (int p = 0; p < PartsOfW; ++p)
      fetch(b, first_column, k, p, stage + (kPartsOfX + p) * kPlane);
    end_of_copies();
  };
  const int64_t channel = first_column + column + lane % 4 * 2;  // the first of this lane
  float scales[4][2], next_scales[4][2];
  WarpSums<PartsOfW> made;
  fetch_all(0, planes);
  load_scales(b, channel, 0, next_scales);
  int64_t group = 0, left = 0;  // columns of the group that are left
  uint32_t turn = 0;
  for (int64_t k = 0; k < a.columns; k += kDepth, turn ^= 1) {
    if (k + kDepth < a.columns) {
      fetch_all(k + kDepth, planes + (turn ^ 1) * kStage);
      wait_for<1>();
    } else {
      wait_for<0>();
    }
    __syncthreads();
    if (left == 0) {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        scales[j][0] = next_scales[j][0], scales[j][1] = next_scales[j][1];
      left = b.group;
      if (++group < b.groups) load_scales(b, channel, group, next_scales);
    }
    left -= kDepth;
    const uint32_t stage = planes + turn * kStage;
    made.add(stage, stage + kPartsOfX * kPlane, row, column, lane, scales);
    __syncthreads();
  }
  write_sums(made, first_row + row + lane / 4, channel, bias, c, add);
}

template <int PartsOfW>
int launch(Queue* queue, const Parts& a, const Parts& b, const float* bias, View c, int add) {
  constexpr int kShared = 2 * (kPartsOfX + PartsOfW) * kPlane;
  if (const int code = allow_shared(split_product_kernel<PartsOfW>, kShared); code != 0)
    return code;
  const dim3 grid(blocks_of(c.rows, kTile), blocks_of(c.columns, kTile));
  split_product_kernel<PartsOfW><<<grid, kThreads, kShared, queue->stream>>>(a, b, bias, c, add);
  return launched();
}

// Codes of whole groups of kDepth columns.
bool has_scaled_codes(const StoredWeight& w) {
  if (w.in_out != 0) return false;
  if (w.form == Form::int8_rows) return true;
  return w.form == Form::grid && w.group_index == nullptr &&
         (w.group % kDepth == 0 || w.groups == 1);
}

}  // namespace

Parts parts_of(Queue* queue, const StoredWeight* weight) {
  Parts parts = {};
  if (!has_tensor_cores(*queue)) return parts;
  parts.rows = weight->out;
  parts.columns = (weight->in + kPartColumns - 1) / kPartColumns * kPartColumns;
  parts.count = 3;
  if (weight->form == Form::dense && weight->number == Number::bf16) parts.count = 1;
  if (weight->form == Form::dense && weight->number == Number::f16) parts.count = 2;
  if (has_scaled_codes(*weight)) {
    const bool whole = weight->form == Form::int8_rows || weight->groups == 1;
    parts.count = 1;
    parts.group = whole ? parts.columns : weight->group;
    parts.groups = whole ? 1 : weight->groups;
  }
  return parts;
}

int split(Queue* queue, ConstView x, Parts to) {
  if (x.rows * to.columns == 0) return 0;
  constexpr int kEach = 256;
  split_kernel<<<blocks_of(x.rows * to.columns / 2, kEach), kEach, 0, queue->stream>>>(x, to);
  return launched();
}

int product_of_parts(Queue* queue, Parts a, Parts b, const float* bias, View c, int add) {
  if (c.rows * c.columns == 0) return 0;
  if (b.scales == nullptr) b.group = b.columns, b.groups = 1;
  if (a.count != kPartsOfX || a.columns != b.columns) return cudaErrorInvalidValue;
  return b.count == 1   ? launch<1>(queue, a, b, bias, c, add)
         : b.count == 2 ? launch<2>(queue, a, b, bias, c, add)
                        : launch<3>(queue, a, b, bias, c, add);
}

}  // namespace qwb::cuda
