// c = a b^T in f32 for many rows. A value of c is one thread's sum over k in ascending order of
// fused multiply-adds, whatever the tiles: it does not depend on how many rows a has.
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/product.cuh"

namespace qwb::cuda {
namespace {

template <int BM, int BN, int TM, int TN>
__global__ void __launch_bounds__(kProductThreads, 2)
    product_kernel(ConstView a, ConstView b, const float* bias, View c, int flags) {
  static_assert(BM / TM * (BN / TN) == kProductThreads, "a thread makes TM x TN values");
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
  for (int64_t k = kProductDepth; k < a.columns; k += kProductDepth, turn ^= 1) {
    left.load(a, first_row, k, aligned), right.load(b, first_column, k, aligned);
    multiply_slices<BM, BN, TM, TN>(a_slice[turn], b_slice[turn], tm, tn, sums);
    left.store(a_slice[turn ^ 1]), right.store(b_slice[turn ^ 1]);
    __syncthreads();
  }
  multiply_slices<BM, BN, TM, TN>(a_slice[turn], b_slice[turn], tm, tn, sums);
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

template <int BM, int BN, int TM, int TN>
int launch(Queue* queue, ConstView a, ConstView b, const float* bias, View c, int flags) {
  const dim3 grid(blocks_of(c.rows, BM), blocks_of(c.columns, BN));
  product_kernel<BM, BN, TM, TN><<<grid, kProductThreads, 0, queue->stream>>>(a, b, bias, c, flags);
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
