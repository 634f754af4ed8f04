// Products on tensor cores whose operands are rounded to bf16: calibration's forward pass, c = a
// b^T, and its moments, c += a^T b. A block makes 128 x 256 values of c; slices of 32 of k go
// through shared memory in four stages. Sums are f32, in an order that no other row or column
// changes. Cards of compute capability 8.0 and above.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/tensor_cores.cuh"

namespace qwb::cuda {
namespace {

constexpr int kRows = 128, kColumns = 256;  // of c that a block makes
constexpr int kSlice = 32;                  // of k
constexpr int kStages = 4;
constexpr int kRoundThreads = 256;
constexpr int kPlaneA = kRows * kSlice * 2, kPlaneB = kColumns * kSlice * 2;  // bytes
constexpr int kStageBytes = kPlaneA + kPlaneB;

// Where eight values lie in a plane, turned so that eight lines are in different banks. Upright: a
// line is a row of the operand, 32 of k; transposed: a line is one k, Size rows of the operand.
template <bool Transposed, int Size>
__device__ uint32_t spot(int line, int chunk) {
  if (Transposed) return static_cast<uint32_t>(line * (Size * 2) + (chunk ^ (line & 7)) * 16);
  return spot_of_row(line, chunk);
}

// Rows first ... of an operand, k ... k + 31, later.
template <bool Transposed, int Size>
__device__ void fetch_slice(const Parts& x, int64_t first, int64_t k, uint32_t plane) {
  constexpr int kChunks = Size * kSlice / 8;
  constexpr int kAcross = Transposed ? Size / 8 : kSlice / 8;  // chunks of a line
#pragma unroll
  for (int i = 0; i < kChunks / kRoundThreads; ++i) {
    const int at = threadIdx.x + i * kRoundThreads, line = at / kAcross, chunk = at % kAcross;
    const int64_t row = Transposed ? k + line : first + line;
    const int64_t column = Transposed ? first + 8 * chunk : k + 8 * chunk;
    const bool there = row < x.rows && column < x.columns;
    copy_later(plane + spot<Transposed, Size>(line, chunk),
               x.data + (there ? row * x.columns + column : 0), there);
  }
}

template <bool Transposed>
__device__ void read_left(uint32_t plane, int row, int k, int lane, uint32_t (&a)[4]) {
  if (Transposed) {
    const int line = k + lane / 16 * 8 + lane % 8, column = row + lane / 8 % 2 * 8;
    read_matrices<true>(plane + spot<true, kRows>(line, column / 8), a[0], a[1], a[2], a[3]);
  } else {
    read_matrices<false>(plane + spot<false, kRows>(row + lane % 16, k / 8 + lane / 16), a[0], a[1],
                         a[2], a[3]);
  }
}

// Two times eight columns of c.
template <bool Transposed>
__device__ void read_right(uint32_t plane, int column, int k, int lane, uint32_t (&b)[2][2]) {
  if (Transposed) {
    const int line = k + lane / 8 % 2 * 8 + lane % 8, at = column + lane / 16 * 8;
    read_matrices<true>(plane + spot<true, kColumns>(line, at / 8), b[0][0], b[0][1], b[1][0],
                        b[1][1]);
  } else {
    const int at = column + lane / 16 * 8 + lane % 8;
    read_matrices<false>(plane + spot<false, kColumns>(at, k / 8 + lane / 8 % 2), b[0][0], b[0][1],
                         b[1][0], b[1][1]);
  }
}

template <bool Transposed>
__global__ void __launch_bounds__(kRoundThreads, 1)
    round_product_kernel(Parts a, Parts b, const float* bias, View c, int add, int upper) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows,
                first_column = static_cast<int64_t>(blockIdx.y) * kColumns;
  if (upper != 0 && first_column + kColumns <= first_row) return;
  const auto stages = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp % 2 * 64, column = warp / 2 * 64;
  const int64_t depth = Transposed ? a.rows : a.columns;
  const auto fetch = [&](int64_t slice) {
    const uint32_t stage = stages + static_cast<uint32_t>(slice % kStages) * kStageBytes;
    if (slice * kSlice < depth) {
      fetch_slice<Transposed, kRows>(a, first_row, slice * kSlice, stage);
      fetch_slice<Transposed, kColumns>(b, first_column, slice * kSlice, stage + kPlaneA);
    }
    end_of_copies();
  };
  float sums[4][8][4] = {};
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) fetch(s);
  for (int64_t slice = 0; slice * kSlice < depth; ++slice) {
    wait_for<kStages - 2>();
    __syncthreads();
    fetch(slice + kStages - 1);
    const uint32_t left = stages + static_cast<uint32_t>(slice % kStages) * kStageBytes;
#pragma unroll
    for (int k = 0; k < kSlice; k += 16) {
      uint32_t x[4][4], w[8][2];
#pragma unroll
      for (int i = 0; i < 4; ++i) read_left<Transposed>(left, row + 16 * i, k, lane, x[i]);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t pair[2][2];
        read_right<Transposed>(left + kPlaneA, column + 8 * j, k, lane, pair);
        w[j][0] = pair[0][0], w[j][1] = pair[0][1];
        w[j + 1][0] = pair[1][0], w[j + 1][1] = pair[1][1];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) multiply_tile(sums[i][j], x[i], w[j][0], w[j][1]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t r = first_row + row + 16 * i + lane / 4 + e / 2 * 8;
        const int64_t o = first_column + column + 8 * j + lane % 4 * 2 + e % 2;
        if (r >= c.rows || o >= c.columns) continue;
        const float sum = bias != nullptr ? sums[i][j][e] + bias[o] : sums[i][j][e];
        float* to = c.data + r * c.stride + o;
        *to = add != 0 ? *to + sum : sum;
      }
    }
  }
}

template <bool Transposed>
int launch_rounded(Queue* queue, const Parts& a, const Parts& b, const float* bias, View c, int add,
                   int upper) {
  constexpr int kShared = kStages * kStageBytes;
  if (const int code = allow_shared(round_product_kernel<Transposed>, kShared); code != 0)
    return code;
  const dim3 grid(blocks_of(c.rows, kRows), blocks_of(c.columns, kColumns));
  round_product_kernel<Transposed>
      <<<grid, kRoundThreads, kShared, queue->stream>>>(a, b, bias, c, add, upper);
  return launched();
}

}  // namespace

int round_product(Queue* queue, Parts a, Parts b, const float* bias, View c, int add) {
  if (c.rows * c.columns == 0) return 0;
  if (a.count != 1 || b.count != 1 || a.columns != b.columns || !has_tensor_cores(*queue))
    return cudaErrorInvalidValue;
  return launch_rounded<false>(queue, a, b, bias, c, add, 0);
}

int add_moments(Queue* queue, Parts a, Parts b, View c, int upper) {
  if (c.rows * c.columns == 0) return 0;
  if (a.count != 1 || b.count != 1 || a.rows != b.rows || !has_tensor_cores(*queue))
    return cudaErrorInvalidValue;
  return launch_rounded<true>(queue, a, b, nullptr, c, 1, upper);
}

}  // namespace qwb::cuda
