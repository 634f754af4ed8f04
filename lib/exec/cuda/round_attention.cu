// Attention on tensor cores with operands rounded to bf16, for calibration's forward pass: 64
// queries of one head in a block, 16 in a warp, against tiles of 64 keys. Scores and sums are f32;
// exponentials are rounded to bf16 for their product with the values. What becomes of a query
// depends on its position alone: tiles begin at multiples of their size, and what it does not see
// adds zeros. Cards of compute capability 8.0 and above.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/heads.cuh"
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/tensor_cores.cuh"

namespace qwb::cuda {
namespace {

constexpr int kQueries = 64, kKeys = 64, kRoundedThreads = 128;
constexpr int kTilesOfKeys = kKeys / 8;

// Where eight values of a row of Dim lie in a plane, turned so that eight rows are in different
// banks.
template <int Dim>
__device__ uint32_t spot(int row, int chunk) {
  return static_cast<uint32_t>(row * (Dim * 2) + (chunk ^ (row & 7)) * 16);
}

// A tile of keys or values as bf16, zero beyond the matrix and the head's own columns.
template <int Dim>
__device__ void load_tile(const ConstView& from, int64_t first, int64_t column, int64_t dim,
                          unsigned char* plane) {
  constexpr int kChunks = Dim / 8;
#pragma unroll 4
  for (int i = threadIdx.x; i < kKeys * kChunks; i += kRoundedThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    uint4 packed = make_uint4(0, 0, 0, 0);
    if (first + row < from.rows && 8 * chunk < dim) {
      const auto* at = reinterpret_cast<const float4*>(from.data + (first + row) * from.stride +
                                                       column + 8 * chunk);
      const float4 a = at[0], b = at[1];
      packed =
          make_uint4(pair_of(a.x, a.y), pair_of(a.z, a.w), pair_of(b.x, b.y), pair_of(b.z, b.w));
    }
    *reinterpret_cast<uint4*>(plane + spot<Dim>(row, chunk)) = packed;
  }
}

// The state of a warp's 16 queries: a lane has two of them, with the columns that mma gives it.
template <int Dim>
struct Queries {
  uint32_t q[Dim / 16][4];
  float sums[Dim / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
  int64_t first;  // of the warp
  int lane;

  __device__ int64_t query(int half) const { return first + lane / 4 + 8 * half; }

  __device__ void load(const Heads& h, int64_t column) {
#pragma unroll
    for (int k = 0; k < Dim / 16; ++k) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t row = query(e % 2), c = 16 * k + lane % 4 * 2 + e / 2 * 8;
        const bool there = row < h.queries.rows && c < h.shape.head_dim;
        const float* at = h.queries.data + row * h.queries.stride + column + c;
        q[k][e] = there ? pair_of(at[0], at[1]) : 0;
      }
    }
  }

  // scores [16, 64] = q keys^T
  __device__ void score(uint32_t keys, float (&scores)[kTilesOfKeys][4]) const {
#pragma unroll
    for (int k = 0; k < Dim / 16; ++k) {
#pragma unroll
      for (int j = 0; j < kTilesOfKeys; j += 2) {
        uint32_t b[2][2];
        const int row = 8 * j + lane / 16 * 8 + lane % 8;
        read_matrices<false>(keys + spot<Dim>(row, 2 * k + lane / 8 % 2), b[0][0], b[0][1], b[1][0],
                             b[1][1]);
        multiply_tile(scores[j], q[k], b[0][0], b[0][1]);
        multiply_tile(scores[j + 1], q[k], b[1][0], b[1][1]);
      }
    }
  }

  // What is not seen becomes -inf.
  __device__ void mask(const Heads& h, int64_t key, float (&scores)[kTilesOfKeys][4]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t position = h.position(query(half)), begin = h.begin(position);
#pragma unroll
      for (int j = 0; j < kTilesOfKeys; ++j) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          const int64_t at = key + 8 * j + lane % 4 * 2 + e % 2;
          scores[j][e] = at >= begin && at <= position ? h.score(scores[j][e]) : -INFINITY;
        }
      }
    }
  }

  // Scores become exponentials; what was summed before is brought to the new maximum.
  __device__ void rescale(float (&scores)[kTilesOfKeys][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = maximum[half];
#pragma unroll
      for (int j = 0; j < kTilesOfKeys; ++j)
        most = fmaxf(most, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const bool none = most == -INFINITY;
      const float factor = none ? 1.0f : expf(maximum[half] - most);
      float sum = 0;
#pragma unroll
      for (int j = 0; j < kTilesOfKeys; ++j) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          scores[j][e] = none ? 0.0f : expf(scores[j][e] - most);
          sum += scores[j][e];
        }
      }
      maximum[half] = most;
      total[half] = fmaf(total[half], factor, sum);  // of the lane's own keys
#pragma unroll
      for (int d = 0; d < Dim / 8; ++d)
        sums[d][2 * half] *= factor, sums[d][2 * half + 1] *= factor;
    }
  }

  // sums [16, Dim] += exponentials values
  __device__ void add(uint32_t values, const float (&weights)[kTilesOfKeys][4]) {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      const float(&left)[4] = weights[2 * k], (&right)[4] = weights[2 * k + 1];
      const uint32_t a[4] = {pair_of(left[0], left[1]), pair_of(left[2], left[3]),
                             pair_of(right[0], right[1]), pair_of(right[2], right[3])};
#pragma unroll
      for (int d = 0; d < Dim / 8; d += 2) {
        uint32_t b[2][2];
        const int row = 16 * k + lane / 8 % 2 * 8 + lane % 8;
        read_matrices<true>(values + spot<Dim>(row, d + lane / 16), b[0][0], b[0][1], b[1][0],
                            b[1][1]);
        multiply_tile(sums[d], a, b[0][0], b[0][1]);
        multiply_tile(sums[d + 1], a, b[1][0], b[1][1]);
      }
    }
  }

  __device__ void store(const Heads& h, int64_t column) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
      const int64_t row = query(half);
      if (row >= h.queries.rows) continue;
#pragma unroll
      for (int d = 0; d < Dim / 8; ++d) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int64_t c = 8 * d + lane % 4 * 2 + e;
          if (c < h.shape.head_dim)
            h.y.data[row * h.y.stride + column + c] = sums[d][2 * half + e] / total[half];
        }
      }
    }
  }
};

template <int Dim>
__global__ void __launch_bounds__(kRoundedThreads)
    round_attention_kernel(const __grid_constant__ Heads h) {
  extern __shared__ __align__(128) unsigned char planes[];  // keys, values
  unsigned char* plane_of_values = planes + kKeys * Dim * 2;
  const auto keys = static_cast<uint32_t>(__cvta_generic_to_shared(planes));
  const auto values = static_cast<uint32_t>(__cvta_generic_to_shared(plane_of_values));
  const int64_t dim = h.shape.head_dim, head = blockIdx.y;
  const int64_t column = head / (h.shape.heads / h.shape.kv_heads) * dim;
  // The longest first: they take most of the time.
  const int64_t first_query = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * kQueries;
  const int64_t last = h.position(min(first_query + kQueries, h.queries.rows) - 1);
  Queries<Dim> own;
  own.lane = threadIdx.x % 32, own.first = first_query + threadIdx.x / 32 * 16;
  own.load(h, head * dim);
  for (int64_t key = h.begin(h.position(first_query)) / kKeys * kKeys; key <= last; key += kKeys) {
    __syncthreads();
    load_tile<Dim>(h.keys, key, column, dim, planes);
    load_tile<Dim>(h.values, key, column, dim, plane_of_values);
    __syncthreads();
    float scores[kTilesOfKeys][4] = {};
    own.score(keys, scores);
    own.mask(h, key, scores);
    own.rescale(scores);
    own.add(values, scores);
  }
  own.store(h, head * dim);
}

template <int Dim>
int launch_heads(Queue* queue, const Heads& h) {
  constexpr int kShared = 2 * kKeys * Dim * 2;
  if (const int code = allow_shared(round_attention_kernel<Dim>, kShared); code != 0) return code;
  const dim3 grid(blocks_of(h.queries.rows, kQueries), static_cast<unsigned>(h.shape.heads));
  round_attention_kernel<Dim><<<grid, kRoundedThreads, kShared, queue->stream>>>(h);
  return launched();
}

bool in_fours(const ConstView& x) {
  return x.stride % 4 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}

}  // namespace

int round_attention(Queue* queue, ConstView queries, ConstView keys, ConstView values,
                    const Attention* shape, View y) {
  if (queries.rows == 0) return 0;
  if (shape->head_dim % 8 != 0 || shape->head_dim > 128 || !has_tensor_cores(*queue) ||
      !in_fours(keys) || !in_fours(values))
    return attention(queue, queries, keys, values, shape, y);
  const Heads h = {queries, keys, values, *shape, y};
  return shape->head_dim <= 64 ? launch_heads<64>(queue, h) : launch_heads<128>(queue, h);
}

}  // namespace qwb::cuda
