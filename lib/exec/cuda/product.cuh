// What products in f32 are made of: slices of the operands in shared memory, sums in registers.
#pragma once

#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {

// A block makes BM x BN values of c, a thread TM x TN of them; slices of kProductDepth of k lie in
// shared memory twice, so that the next is fetched while one is multiplied.
constexpr int kProductDepth = 16;
constexpr int kProductThreads = 256;

// [kProductDepth][B] values, k-major; the pad keeps transposing stores from meeting in one bank.
template <int B>
using Slice = float[kProductDepth][B + 4];

// The part of a slice that a thread fetches: B * kProductDepth / 256 values in groups of four
// along k.
template <int B>
struct Fetch {
  static constexpr int kFours = B * kProductDepth / 4 / kProductThreads;
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
      const int at = threadIdx.x + i * kProductThreads;
      values[i] =
          four(x, first + at / (kProductDepth / 4), k + at % (kProductDepth / 4) * 4, aligned);
    }
  }
  __device__ void store(Slice<B>& slice) const {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int at = threadIdx.x + i * kProductThreads, row = at / (kProductDepth / 4),
                k = at % (kProductDepth / 4) * 4;
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
__device__ void multiply_slices(const Slice<BM>& a, const Slice<BN>& b, int tm, int tn,
                                float (&sums)[TM][TN]) {
#pragma unroll
  for (int k = 0; k < kProductDepth; ++k) {
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

// sums = the values of a block's tile of c from first_row and first_column on, over all slices of
// k; Right fetches those of b. A value's sum goes over k in ascending order, whatever the tiles.
template <int BM, int BN, int TM, int TN, class Right>
__device__ __forceinline__ void sum_slices(const ConstView& a, const ConstView& b, bool a_aligned,
                                           bool b_aligned, int64_t first_row, int64_t first_column,
                                           float (&sums)[TM][TN]) {
  static_assert(BM / TM * (BN / TN) == kProductThreads, "a thread makes TM x TN values");
  __shared__ __align__(16) Slice<BM> a_slice[2];
  __shared__ __align__(16) Slice<BN> b_slice[2];
  const int tn = threadIdx.x % (BN / TN), tm = threadIdx.x / (BN / TN);
  Fetch<BM> left;
  Right right;
  left.load(a, first_row, 0, a_aligned), right.load(b, first_column, 0, b_aligned);
  left.store(a_slice[0]), right.store(b_slice[0]);
  __syncthreads();
  int turn = 0;
  for (int64_t k = kProductDepth; k < a.columns; k += kProductDepth, turn ^= 1) {
    left.load(a, first_row, k, a_aligned), right.load(b, first_column, k, b_aligned);
    multiply_slices<BM, BN, TM, TN>(a_slice[turn], b_slice[turn], tm, tn, sums);
    left.store(a_slice[turn ^ 1]), right.store(b_slice[turn ^ 1]);
    __syncthreads();
  }
  multiply_slices<BM, BN, TM, TN>(a_slice[turn], b_slice[turn], tm, tn, sums);
}

// body(column, its place in c, sum) for those of a thread's sums that c has.
template <int BM, int BN, int TM, int TN, class Body>
__device__ __forceinline__ void each_sum(const View& c, int64_t first_row, int64_t first_column,
                                         const float (&sums)[TM][TN], const Body& body) {
  const int tn = threadIdx.x % (BN / TN), tm = threadIdx.x / (BN / TN);
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    const int64_t row = first_row + i / 4 * (BM * 4 / TM) + tm * 4 + i % 4;
#pragma unroll
    for (int j = 0; j < TN; ++j) {
      const int64_t column = first_column + j / 4 * (BN * 4 / TN) + tn * 4 + j % 4;
      if (row < c.rows && column < c.columns)
        body(column, c.data + row * c.stride + column, sums[i][j]);
    }
  }
}

// Small tiles where large ones would leave most processors idle; the bits are the same.
inline bool in_large_tiles(const View& c) {
  return static_cast<int64_t>(blocks_of(c.rows, 128)) * blocks_of(c.columns, 128) >= 128;
}

inline bool aligned(const ConstView& x) {
  return x.stride % 4 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}

}  // namespace qwb::cuda
