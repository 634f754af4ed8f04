// c = a b^T in f32 for many rows. A value of c is one thread's sum over k in ascending order of
// fused multiply-adds, whatever the tiles: it does not depend on how many rows a has.
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {
namespace {

// A block makes BM x BN values of c, a thread TM x TN of them; slices of kDepth of k lie in shared
// memory twice, so that the next is fetched while one is multiplied.
constexpr int kDepth = 16;
constexpr int kThreads = 256;

// [kDepth][B] values, k-major; the pad keeps transposing stores from meeting in one bank.
template <int B>
using Slice = float[kDepth][B + 4];

// The part of a slice that a thread fetches: B * kDepth / 256 values in groups of four along k.
template <int B>
struct Fetch {
  static constexpr int kFours = B * kDepth / 4 / kThreads;
  float4 values[kFours];

  // Four values of row `row` from column k on; zero beyond the matrix.
  static __device__ float4 four(const ConstView& x, int64_t row, int64_t k, bool aligned) {
    if (row >= x.rows) return make_float4(0, 0, 0, 0);
    const float* at = x.data + row * x.stride + k;
    if (aligned && k + 4 <= x.columns) return *reinterpret_cast<const float4*>(at);
    return make_float4(k < x.columns ? at[0] : 0, k + 1 < x.columns ? at[1] : 0,
                       k + 2 < x.columns ? at[2] : 0, k + 3 < x.columns ? at[3] : 0);
  }
  __device__ void load(const ConstView& x, int64_t first, int64_t k, bool aligned) {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int at = threadIdx.x + i * kThreads;
      values[i] = four(x, first + at / (kDepth / 4), k + at % (kDepth / 4) * 4, aligned);
    }
  }
  __device__ void store(Slice<B>& slice) const {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int at = threadIdx.x + i * kThreads, row = at / (kDepth / 4), k = at % (kDepth / 4) * 4;
      slice[k][row] = values[i].x;
      slice[k + 1][row] = values[i].y;
      slice[k + 2][row] = values[i].z;
      slice[k + 3][row] = values[i].w;
    }
  }
};

// T values that a thread takes of a slice's row: runs of four, 64 (or 32) apart, so that the
// threads of a warp read whole lines.
template <int B, int T>
__device__ void take(const float (&row)[B + 4], int thread, float (&values)[T]) {
#pragma unroll
  for (int i = 0; i < T; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(&row[i / 4 * (B * 4 / T) + thread * 4]);
    values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
  }
}

template <int BM, int BN, int TM, int TN>
__device__ void multiply(const Slice<BM>& a, const Slice<BN>& b, int tm, int tn,
                         float (&sums)[TM][TN]) {
#pragma unroll
  for (int k = 0; k < kDepth; ++k) {
    float left[TM], right[TN];
    take<BM, TM>(a[k], tm, left);
    take<BN, TN>(b[k], tn, right);
#pragma unroll
    for (int i = 0; i < TM; ++i) {
#pragma unroll
      for (int j = 0; j < TN; ++j) sums[i][j] = fmaf(left[i], right[j], sums[i][j]);
    }
  }
}

template <int BM, int BN, int TM, int TN>
__global__ void __launch_bounds__(kThreads, 2)
    product_kernel(ConstView a, ConstView b, const float* bias, View c, int flags) {
  static_assert(BM / TM * (BN / TN) == kThreads, "a thread makes TM x TN values");
  __shared__ __align__(16) Slice<BM> a_slice[2];
  __shared__ __align__(16) Slice<BN> b_slice[2];
  const bool add = (flags & 1) != 0, aligned = (flags & 2) != 0;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * BM,
                first_column = static_cast<int64_t>(blockIdx.y) * BN;
  const int tn = threadIdx.x % (BN / TN), tm = threadIdx.x / (BN / TN);
  float sums[TM][TN] = {};
  Fetch<BM> left;
  Fetch<BN> right;
  left.load(a, first_row, 0, aligned), right.load(b, first_column, 0, aligned);
  left.store(a_slice[0]), right.store(b_slice[0]);
  __syncthreads();
  int turn = 0;
  for (int64_t k = kDepth; k < a.columns; k += kDepth, turn ^= 1) {
    left.load(a, first_row, k, aligned), right.load(b, first_column, k, aligned);
    multiply<BM, BN, TM, TN>(a_slice[turn], b_slice[turn], tm, tn, sums);
    left.store(a_slice[turn ^ 1]), right.store(b_slice[turn ^ 1]);
    __syncthreads();
  }
  multiply<BM, BN, TM, TN>(a_slice[turn], b_slice[turn], tm, tn, sums);
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    const int64_t row = first_row + i / 4 * (BM * 4 / TM) + tm * 4 + i % 4;
#pragma unroll
    for (int j = 0; j < TN; ++j) {
      const int64_t column = first_column + j / 4 * (BN * 4 / TN) + tn * 4 + j % 4;
      if (row >= c.rows || column >= c.columns) continue;
      const float sum = bias != nullptr ? sums[i][j] + bias[column] : sums[i][j];
      float* to = c.data + row * c.stride + column;
      *to = add ? *to + sum : sum;
    }
  }
}

bool aligned(const ConstView& x) {
  return x.stride % 4 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}

template <int BM, int BN, int TM, int TN>
int launch(Queue* queue, ConstView a, ConstView b, const float* bias, View c, int flags) {
  const dim3 grid(blocks_of(c.rows, BM), blocks_of(c.columns, BN));
  product_kernel<BM, BN, TM, TN><<<grid, kThreads, 0, queue->stream>>>(a, b, bias, c, flags);
  return launched();
}

}  // namespace

int product(Queue* queue, ConstView a, ConstView b, const float* bias, View c, int add) {
  if (c.rows * c.columns == 0) return 0;
  const int flags = (add != 0 ? 1 : 0) | (aligned(a) && aligned(b) ? 2 : 0);
  // Small tiles where large ones would leave most processors idle; the bits are the same.
  const int64_t large = static_cast<int64_t>(blocks_of(c.rows, 128)) * blocks_of(c.columns, 128);
  return large >= 128 ? launch<128, 128, 8, 8>(queue, a, b, bias, c, flags)
                      : launch<64, 64, 4, 4>(queue, a, b, bias, c, flags);
}

}  // namespace qwb::cuda
