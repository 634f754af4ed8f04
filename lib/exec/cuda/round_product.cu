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

// What a thread brings of the slices of an operand, rows first ... of it, slice after slice.
template <bool Transposed, int Size>
class Slices {
 public:
  __device__ Slices(const Parts& x, int64_t first) : base_(x.data), depth_(depth_of(x)) {
    step_ = Transposed ? kSlice * x.columns : kSlice;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = threadIdx.x + i * kRoundThreads, line = at / kAcross, chunk = at % kAcross;
      const int64_t row = Transposed ? line : first + line;
      const int64_t column = Transposed ? first + 8 * chunk : 8 * chunk;
      there_[i] = Transposed ? column < x.columns : row < x.rows;
      line_[i] = Transposed ? line : 0;
      from_[i] = row * x.columns + column;
      to_[i] = spot<Transposed, Size>(line, chunk);
    }
  }
  // The next slice, later; nothing beyond the last. Depths of upright operands are whole slices.
  __device__ void fetch(uint32_t plane) {
    if (at_ >= depth_) return;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const bool there = there_[i] && at_ + line_[i] < depth_;
      copy_later(plane + to_[i], base_ + (there ? from_[i] : 0), there);
      from_[i] += step_;
    }
    at_ += kSlice;
  }
  static __device__ int64_t depth_of(const Parts& x) {
    return Transposed ? x.rows : x.columns;
  }

 private:
  static constexpr int kEach = Size * kSlice / 8 / kRoundThreads;
  static constexpr int kAcross = Transposed ? Size / 8 : kSlice / 8;  // chunks of a line
  const uint16_t* base_;
  int64_t depth_, step_, at_ = 0, from_[kEach];
  uint32_t to_[kEach];
  int line_[kEach];
  bool there_[kEach];
};

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

// A warp's operands of 16 of k: 64 rows of a, 64 columns of b.
template <bool Transposed>
struct Step {
  uint32_t x[4][4], w[8][2];

  __device__ void read(uint32_t stage, int row, int column, int k, int lane) {
#pragma unroll
    for (int i = 0; i < 4; ++i) read_left<Transposed>(stage, row + 16 * i, k, lane, x[i]);
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      uint32_t pair[2][2];
      read_right<Transposed>(stage + kPlaneA, column + 8 * j, k, lane, pair);
      w[j][0] = pair[0][0], w[j][1] = pair[0][1];
      w[j + 1][0] = pair[1][0], w[j + 1][1] = pair[1][1];
    }
  }
  __device__ void multiply(float (&sums)[4][8][4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) multiply_tile(sums[i][j], x[i], w[j][0], w[j][1]);
    }
  }
};

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
  Slices<Transposed, kRows> left(a, first_row);
  Slices<Transposed, kColumns> right(b, first_column);
  const auto fetch = [&](uint32_t stage) {
    left.fetch(stage), right.fetch(stage + kPlaneA);
    end_of_copies();
  };
#pragma unroll
  for (int s = 0; s < kStages; ++s) fetch(stages + s * kStageBytes);
  wait_for<kStages - 1>();
  __syncthreads();
  float sums[4][8][4] = {};
  Step<Transposed> even, odd;  // the next is read while one is multiplied
  even.read(stages, row, column, 0, lane);
  const int64_t slices = (Slices<Transposed, kRows>::depth_of(a) + kSlice - 1) / kSlice;
  uint32_t stage = stages;
  for (int64_t slice = 0; slice < slices; ++slice) {
    odd.read(stage, row, column, 16, lane);
    even.multiply(sums);
    wait_for<kStages - 2>();
    __syncthreads();
    fetch(stage);
    stage = stage + kStageBytes == stages + kStages * kStageBytes ? stages : stage + kStageBytes;
    even.read(stage, row, column, 0, lane);
    odd.multiply(sums);
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
