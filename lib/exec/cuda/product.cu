// c = a b^T in f32 for many rows. A value of c is one thread's sum over k in ascending order of
// fused multiply-adds, whatever the tiles: it does not depend on how many rows a has.
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/product.cuh"

namespace qwb::cuda {
namespace {

template <int BM, int BN, int TM, int TN>
__global__ void __launch_bounds__(kProductThreads, 2)
    product_kernel(ConstView a, ConstView b, const float* bias, View c, int flags) {
  const bool add = (flags & 1) != 0, aligned = (flags & 2) != 0;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * BM,
                first_column = static_cast<int64_t>(blockIdx.y) * BN;
  float sums[TM][TN] = {};
  sum_slices<BM, BN, TM, TN, Fetch<BN>>(a, b, aligned, aligned, first_row, first_column, sums);
  each_sum<BM, BN, TM, TN>(c, first_row, first_column, sums,
                           [&](int64_t column, float* to, float value) {
                             const float sum = bias != nullptr ? value + bias[column] : value;
                             *to = add ? *to + sum : sum;
                           });
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
  return in_large_tiles(c) ? launch<128, 128, 8, 8>(queue, a, b, bias, c, flags)
                           : launch<64, 64, 4, 4>(queue, a, b, bias, c, flags);
}

}  // namespace qwb::cuda
