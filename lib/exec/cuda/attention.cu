// Causal attention in f32. What becomes of a query depends on its position and on whether it comes
// with few others, on nothing else: keys are taken in tiles that begin at multiples of the tile's
// size, in ascending order.
#include <algorithm>

#include "lib/exec/cuda/heads.cuh"
#include "lib/exec/cuda/operations.cuh"

namespace qwb::cuda {
namespace {

constexpr unsigned kAll = 0xffffffffu;

__device__ float max_of_warp(float value) {
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(kAll, value, step));
  return value;
}

// --- few queries: a block for a tile of keys, all query heads of a key head and one query

constexpr int kTile = 32, kFewThreads = 256, kFewWarps = kFewThreads / 32;
constexpr int kWarpKeys = kTile / kFewWarps;

// One tile's part of one head: values before they are divided by the sum.
struct Part {
  float maximum, sum;
};

// scores[g][key] of the tile's keys: a warp has kWarpKeys of them in registers, C values a lane.
template <int C>
__device__ void tile_scores(const Heads& h, int64_t query, int64_t first, int64_t kv_head,
                            int64_t group, float* scores) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, dim = h.shape.head_dim;
  const int64_t position = h.position(query), begin = h.begin(position);
  float keys[kWarpKeys][C];
#pragma unroll
  for (int key = 0; key < kWarpKeys; ++key) {
    const int64_t at = min(first + warp * kWarpKeys + key, position);
    const float* k = h.keys.data + at * h.keys.stride + kv_head * dim;
#pragma unroll
    for (int c = 0; c < C; ++c) keys[key][c] = lane + 32 * c < dim ? k[lane + 32 * c] : 0.0f;
  }
  for (int64_t g = 0; g < group; ++g) {
    const float* q = h.queries.data + query * h.queries.stride + (kv_head * group + g) * dim;
    float sums[kWarpKeys] = {};
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const float value = lane + 32 * c < dim ? q[lane + 32 * c] : 0.0f;
#pragma unroll
      for (int key = 0; key < kWarpKeys; ++key) sums[key] = fmaf(value, keys[key][c], sums[key]);
    }
    const float sum = sum_of_lanes<kWarpKeys>(sums, lane);
    const int key = warp * kWarpKeys + lane / (32 / kWarpKeys);
    const int64_t at = first + key;
    if (lane % (32 / kWarpKeys) == 0)
      scores[g * kTile + key] = at >= begin && at <= position ? h.score(sum) : -INFINITY;
  }
}

// Scores become exp(score - maximum).
__device__ void tile_softmax(int64_t group, float* scores, Part* parts) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int64_t g = warp; g < group; g += kFewWarps) {
    float* row = scores + g * kTile;
    const float score = row[lane], maximum = max_of_warp(score);
    const float value = expf(score - maximum);
    row[lane] = value;
    const float sum = sum_of_warp(value);
    if (lane == 0) parts[g] = {maximum, sum};
  }
}

// partial [queries][heads][tiles] parts, then as many [head_dim] values; null: there is one tile.
template <int C>
__global__ void __launch_bounds__(kFewThreads)
    few_kernel(const __grid_constant__ Heads h, int64_t tiles, Part* parts, float* partial) {
  extern __shared__ float scores[];  // [group][kTile], then the parts
  const int64_t dim = h.shape.head_dim, group = h.shape.heads / h.shape.kv_heads;
  auto* own = reinterpret_cast<Part*>(scores + group * kTile);
  const int64_t kv_head = blockIdx.x, query = blockIdx.z, position = h.position(query);
  const int64_t tile = h.begin(position) / kTile + blockIdx.y, first = tile * kTile;
  if (first > position) return;
  tile_scores<C>(h, query, first, kv_head, group, scores);
  __syncthreads();
  tile_softmax(group, scores, own);
  __syncthreads();
  const int64_t count = min(static_cast<int64_t>(kTile), position + 1 - first);
  for (int64_t i = threadIdx.x; i < group * dim; i += kFewThreads) {
    const int64_t g = i / dim, d = i % dim, head = kv_head * group + g;
    const float* v = h.values.data + first * h.values.stride + kv_head * dim + d;
    float sum = 0;
#pragma unroll 16
    for (int64_t key = 0; key < count; ++key)
      sum = fmaf(scores[g * kTile + key], v[key * h.values.stride], sum);
    if (tiles == 1) {
      h.y.data[query * h.y.stride + head * dim + d] = sum / own[g].sum;
      continue;
    }
    const int64_t slot = (query * h.shape.heads + head) * tiles + blockIdx.y;
    partial[slot * dim + d] = sum;
    if (d == 0) parts[slot] = own[g];
  }
}

// The tiles of one head of one query, in order.
__global__ void combine_kernel(const __grid_constant__ Heads h, int64_t tiles, const Part* parts,
                               const float* partial) {
  const int64_t dim = h.shape.head_dim, head = blockIdx.x, query = blockIdx.y;
  const int64_t position = h.position(query);
  const int64_t used = position / kTile - h.begin(position) / kTile + 1;
  const int64_t slot = (query * h.shape.heads + head) * tiles;
  float maximum = -INFINITY;
  for (int64_t t = 0; t < used; ++t) maximum = fmaxf(maximum, parts[slot + t].maximum);
  for (int64_t d = threadIdx.x; d < dim; d += blockDim.x) {
    float total = 0, sum = 0;
    for (int64_t t = 0; t < used; ++t) {
      const float factor = expf(parts[slot + t].maximum - maximum);
      total = fmaf(factor, parts[slot + t].sum, total);
      sum = fmaf(factor, partial[(slot + t) * dim + d], sum);
    }
    h.y.data[query * h.y.stride + head * dim + d] = sum / total;
  }
}

int few_queries(Queue* queue, const Heads& h) {
  const Attention& s = h.shape;
  const int64_t last = h.keys.rows - 1, queries = h.queries.rows;
  // Of the query that sees most of them.
  int64_t tiles = 0;
  for (int64_t q = 0; q < queries; ++q) {
    const int64_t position = last - queries + 1 + q;
    const int64_t begin = s.window > 0 ? std::max<int64_t>(0, position - s.window + 1) : 0;
    tiles = std::max(tiles, position / kTile - begin / kTile + 1);
  }
  const int64_t group = s.heads / s.kv_heads, slots = queries * s.heads * tiles;
  void* memory = nullptr;
  if (tiles > 1) {
    const int64_t bytes = slots * (static_cast<int64_t>(sizeof(Part)) + s.head_dim * 4);
    if (const int code = reserve(*queue, 0, bytes, &memory); code != 0) return code;
  }
  auto* parts = static_cast<Part*>(memory);
  auto* partial = reinterpret_cast<float*>(parts + (tiles > 1 ? slots : 0));
  const int64_t shared = group * (kTile * 4 + static_cast<int64_t>(sizeof(Part)));
  if (shared > 48 * 1024) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(s.kv_heads), static_cast<unsigned>(tiles),
                  static_cast<unsigned>(queries));
  const auto kernel = s.head_dim <= 128 ? &few_kernel<4> : &few_kernel<8>;
  kernel<<<grid, kFewThreads, static_cast<size_t>(shared), queue->stream>>>(h, tiles, parts,
                                                                            partial);
  if (tiles > 1) {
    const dim3 heads(static_cast<unsigned>(s.heads), static_cast<unsigned>(queries));
    combine_kernel<<<heads, 128, 0, queue->stream>>>(h, tiles, parts, partial);
  }
  return launched();
}

// --- many queries: a block for kWarps * R queries of one head, tiles of 32 keys, a lane for a key
// in the scores and for C columns in the values

constexpr int kWarps = 8, kKeys = 32;

// rows x dim values into shared memory, zero beyond `rows` and up to a multiple of four columns.
__device__ void load_tile(const ConstView& from, int64_t first, int64_t column, int64_t dim,
                          int height, int width, float* tile) {
  for (int row = threadIdx.x / 32; row < height; row += kWarps) {
    const float* at = from.data + (first + row) * from.stride + column;
    for (int64_t d = threadIdx.x % 32; d < width - 4; d += 32)
      tile[row * width + d] = first + row < from.rows && d < dim ? at[d] : 0.0f;
  }
}

template <int R>
__device__ void scores_of(const float* queries, const float* keys, int width, float (&scores)[R]) {
  const float* key = keys + threadIdx.x % 32 * width;
#pragma unroll
  for (int r = 0; r < R; ++r) scores[r] = 0;
  for (int d = 0; d < width - 4; d += 4) {
    const float4 k = *reinterpret_cast<const float4*>(key + d);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float4 q = *reinterpret_cast<const float4*>(queries + r * width + d);
      scores[r] = fmaf(q.x, k.x, scores[r]);
      scores[r] = fmaf(q.y, k.y, scores[r]);
      scores[r] = fmaf(q.z, k.z, scores[r]);
      scores[r] = fmaf(q.w, k.w, scores[r]);
    }
  }
}

template <int R, int C>
struct Running {
  float maximum[R], sum[R], values[R][C];
  __device__ Running() {
    for (int r = 0; r < R; ++r) {
      maximum[r] = -INFINITY, sum[r] = 0;
      for (int c = 0; c < C; ++c) values[r][c] = 0;
    }
  }
  // A tile's scores come to those before; they become their exponentials.
  __device__ void rescale(float (&scores)[R]) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float now = fmaxf(maximum[r], max_of_warp(scores[r]));
      const bool none = now == -INFINITY;
      const float factor = none ? 1.0f : expf(maximum[r] - now);
      scores[r] = none ? 0.0f : expf(scores[r] - now);
      maximum[r] = now;
      sum[r] = fmaf(sum[r], factor, sum_of_warp(scores[r]));
#pragma unroll
      for (int c = 0; c < C; ++c) values[r][c] *= factor;
    }
  }
  __device__ void add(const float (&weights)[R], const float* tile, int width) {
    for (int key = 0; key < kKeys; ++key) {
      float row[C];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const int column = threadIdx.x % 32 + 32 * c;
        row[c] = column < width - 4 ? tile[key * width + column] : 0.0f;
      }
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const float weight = __shfl_sync(kAll, weights[r], key);
#pragma unroll
        for (int c = 0; c < C; ++c) values[r][c] = fmaf(weight, row[c], values[r][c]);
      }
    }
  }
};

template <int R, int C>
__global__ void __launch_bounds__(32 * kWarps)
    many_kernel(const __grid_constant__ Heads h, int width) {
  extern __shared__ __align__(16) float tiles[];  // queries, then keys and values by turns
  constexpr int kQueries = kWarps * R;
  float* tile = tiles + kQueries * width;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t dim = h.shape.head_dim, head = blockIdx.y;
  const int64_t column = head / (h.shape.heads / h.shape.kv_heads) * dim;
  const int64_t first_query = static_cast<int64_t>(blockIdx.x) * kQueries;
  load_tile(h.queries, first_query, head * dim, dim, kQueries, width, tiles);
  const int64_t last_query = min(first_query + kQueries, h.queries.rows) - 1;
  const int64_t last = h.position(last_query);
  Running<R, C> running;
  for (int64_t key = h.begin(h.position(first_query)) / kKeys * kKeys; key <= last; key += kKeys) {
    __syncthreads();
    load_tile(h.keys, key, column, dim, kKeys, width, tile);
    __syncthreads();
    float scores[R];
    scores_of<R>(tiles + warp * R * width, tile, width, scores);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t position = h.position(first_query + warp * R + r), at = key + lane;
      const bool seen = at <= position && at >= h.begin(position);
      scores[r] = seen ? h.score(scores[r]) : -INFINITY;
    }
    running.rescale(scores);
    __syncthreads();
    load_tile(h.values, key, column, dim, kKeys, width, tile);
    __syncthreads();
    running.add(scores, tile, width);
  }
  for (int r = 0; r < R; ++r) {
    const int64_t query = first_query + warp * R + r;
    if (query >= h.queries.rows) break;
    for (int c = 0; c < C; ++c) {
      const int64_t d = lane + 32 * c;
      if (d < dim)
        h.y.data[query * h.y.stride + head * dim + d] = running.values[r][c] / running.sum[r];
    }
  }
}

template <int R, int C>
int many_queries(Queue* queue, const Heads& h) {
  const int width = static_cast<int>((h.shape.head_dim + 3) / 4 * 4 + 4);
  const int shared = (kWarps * R + kKeys) * width * static_cast<int>(sizeof(float));
  if (const int code = allow_shared(many_kernel<R, C>, shared); code != 0) return code;
  const dim3 grid(blocks_of(h.queries.rows, kWarps * R), static_cast<unsigned>(h.shape.heads));
  many_kernel<R, C><<<grid, 32 * kWarps, static_cast<size_t>(shared), queue->stream>>>(h, width);
  return launched();
}

}  // namespace

int attention(Queue* queue, ConstView queries, ConstView keys, ConstView values,
              const Attention* shape, View y) {
  if (queries.rows == 0) return 0;
  const Heads h = {queries, keys, values, *shape, y};
  if (queries.rows <= kFewRows) return few_queries(queue, h);
  return shape->head_dim <= 128 ? many_queries<4, 4>(queue, h) : many_queries<2, 8>(queue, h);
}

}  // namespace qwb::cuda
