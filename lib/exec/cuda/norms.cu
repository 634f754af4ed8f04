// One block for one row; sums in f32, in an order that the width alone decides.
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {
namespace {

// Of a row of n values.
int threads_of(int64_t n) {
  return n >= 4096 ? 1024 : n >= 1024 ? 512 : n >= 256 ? 256 : 64;
}

// The block's threads walk over a row: value(column).
template <class Value>
__device__ float sum_of_row(int64_t columns, float* shared, const Value& value) {
  float sum = 0;
  for (int64_t c = threadIdx.x; c < columns; c += blockDim.x) sum += value(c);
  return sum_of_block(sum, shared);
}

// A value at a time.
__global__ void rms_norm_kernel(ConstView x, const float* gain, float eps, View y) {
  __shared__ float shared[32];
  const float* from = x.data + blockIdx.x * x.stride;
  float* to = y.data + blockIdx.x * y.stride;
  const float square = sum_of_row(x.columns, shared, [&](int64_t c) { return from[c] * from[c]; });
  const float factor = 1.0f / sqrtf(square / static_cast<float>(x.columns) + eps);
  for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) to[c] = from[c] * factor * gain[c];
}

// Wide rows: four values at a time, each read once.
constexpr int kWideThreads = 512, kWideFours = 4;
constexpr int64_t kWidest = 4 * kWideThreads * kWideFours;
__global__ void __launch_bounds__(kWideThreads)
    rms_norm_wide_kernel(ConstView x, const float* gain, float eps, View y) {
  __shared__ float shared[32];
  const auto* from = reinterpret_cast<const float4*>(x.data + blockIdx.x * x.stride);
  auto* to = reinterpret_cast<float4*>(y.data + blockIdx.x * y.stride);
  const int fours = static_cast<int>(x.columns / 4);
  float4 values[kWideFours], gains[kWideFours];
  float square = 0;
#pragma unroll
  for (int i = 0; i < kWideFours; ++i) {
    const int at = threadIdx.x + i * kWideThreads;
    values[i] = at < fours ? from[at] : make_float4(0, 0, 0, 0);
    if (at < fours) gains[i] = reinterpret_cast<const float4*>(gain)[at];
  }
#pragma unroll
  for (int i = 0; i < kWideFours; ++i) {
    const float4 v = values[i];
    square += (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
  }
  square = sum_of_block(square, shared);
  const float factor = 1.0f / sqrtf(square / static_cast<float>(x.columns) + eps);
#pragma unroll
  for (int i = 0; i < kWideFours; ++i) {
    const int at = threadIdx.x + i * kWideThreads;
    const float4 v = values[i], g = gains[i];
    if (at < fours)
      to[at] = make_float4(v.x * factor * g.x, v.y * factor * g.y, v.z * factor * g.z,
                           v.w * factor * g.w);
  }
}

__global__ void layer_norm_kernel(ConstView x, const float* gain, const float* bias, float eps,
                                  View y) {
  __shared__ float shared[32];
  const float* from = x.data + blockIdx.x * x.stride;
  float* to = y.data + blockIdx.x * y.stride;
  const auto n = static_cast<float>(x.columns);
  const float mean = sum_of_row(x.columns, shared, [&](int64_t c) { return from[c]; }) / n;
  const float square = sum_of_row(x.columns, shared, [&](int64_t c) {
    const float centred = from[c] - mean;
    return centred * centred;
  });
  const float factor = 1.0f / sqrtf(square / n + eps);
  for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x)
    to[c] = fmaf((from[c] - mean) * factor, gain[c], bias[c]);
}

}  // namespace

int rms_norm(Queue* queue, ConstView x, const float* gain, float eps, View y) {
  if (x.rows == 0) return 0;
  const auto rows = static_cast<unsigned>(x.rows);
  const auto places = reinterpret_cast<uintptr_t>(x.data) | reinterpret_cast<uintptr_t>(y.data) |
                      reinterpret_cast<uintptr_t>(gain);
  // The way, and so the bits, follow from the width: rows of such widths begin aligned.
  if (x.columns % 64 == 0 && x.columns >= 1024 && x.columns <= kWidest) {
    if (places % 16 != 0) return cudaErrorMisalignedAddress;
    rms_norm_wide_kernel<<<rows, kWideThreads, 0, queue->stream>>>(x, gain, eps, y);
  } else {
    rms_norm_kernel<<<rows, threads_of(x.columns), 0, queue->stream>>>(x, gain, eps, y);
  }
  return launched();
}

int layer_norm(Queue* queue, ConstView x, const float* gain, const float* bias, float eps, View y) {
  if (x.rows == 0) return 0;
  layer_norm_kernel<<<static_cast<unsigned>(x.rows), threads_of(x.columns), 0, queue->stream>>>(
      x, gain, bias, eps, y);
  return launched();
}

}  // namespace qwb::cuda
