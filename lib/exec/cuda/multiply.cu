// c = factor a b^T or factor a b in f32, or c += that: the products of factors and solvers. As
// product.cu, a value's sum goes over k in ascending order, whatever the tiles.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/product.cuh"

namespace qwb::cuda {
namespace {

// The part of a slice of b [k, n] that a thread fetches.
template <int B>
struct FetchDown {
  static constexpr int kFours = B * kProductDepth / 4 / kProductThreads;
  float4 values[kFours];

  __device__ void load(const ConstView& b, int64_t first, int64_t k, bool aligned) {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int at = threadIdx.x + i * kProductThreads;
      ConstView columns = b;  // Fetch::four checks rows and columns as they lie
      values[i] = Fetch<B>::four(columns, k + at / (B / 4), first + at % (B / 4) * 4, aligned);
    }
  }
  __device__ void store(Slice<B>& slice) const {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int at = threadIdx.x + i * kProductThreads;
      *reinterpret_cast<float4*>(&slice[at / (B / 4)][at % (B / 4) * 4]) = values[i];
    }
  }
};

template <bool Down, int B>
struct FetchOf {
  using Type = Fetch<B>;
};
template <int B>
struct FetchOf<true, B> {
  using Type = FetchDown<B>;
};

template <bool Down, int BM, int BN, int TM, int TN>
__global__ void __launch_bounds__(kProductThreads, 2) multiply_kernel(Multiply t, int flags) {
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * BM,
                first_column = static_cast<int64_t>(blockIdx.y) * BN;
  if (t.upper != 0 && first_column + BN <= first_row) return;
  float sums[TM][TN] = {};
  sum_slices<BM, BN, TM, TN, typename FetchOf<Down, BN>::Type>(
      t.a, t.b, (flags & 1) != 0, (flags & 2) != 0, first_row, first_column, sums);
  each_sum<BM, BN, TM, TN>(t.c, first_row, first_column, sums,
                           [&](int64_t, float* to, float value) {
                             *to = t.add != 0 ? fmaf(t.factor, value, *to) : t.factor * value;
                           });
}

template <bool Down, int BM, int BN, int TM, int TN>
int launch_multiply(Queue* queue, const Multiply& t, int flags) {
  const dim3 grid(blocks_of(t.c.rows, BM), blocks_of(t.c.columns, BN));
  multiply_kernel<Down, BM, BN, TM, TN><<<grid, kProductThreads, 0, queue->stream>>>(t, flags);
  return launched();
}

template <bool Down>
int launch_sized(Queue* queue, const Multiply& t, int flags) {
  return in_large_tiles(t.c) ? launch_multiply<Down, 128, 128, 8, 8>(queue, t, flags)
                             : launch_multiply<Down, 64, 64, 4, 4>(queue, t, flags);
}

}  // namespace

int multiply(Queue* queue, const Multiply* task) {
  if (task->c.rows * task->c.columns == 0) return 0;
  const int flags = (aligned(task->a) ? 1 : 0) | (aligned(task->b) ? 2 : 0);
  return task->down != 0 ? launch_sized<true>(queue, *task, flags)
                         : launch_sized<false>(queue, *task, flags);
}

}  // namespace qwb::cuda
