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

__global__ void rms_norm_kernel(ConstView x, const float* gain, float eps, View y) {
  __shared__ float shared[32];
  const float* from = x.data + blockIdx.x * x.stride;
  float* to = y.data + blockIdx.x * y.stride;
  const float square = sum_of_row(x.columns, shared, [&](int64_t c) { return from[c] * from[c]; });
  const float factor = 1.0f / sqrtf(square / static_cast<float>(x.columns) + eps);
  for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) to[c] = from[c] * factor * gain[c];
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
  rms_norm_kernel<<<static_cast<unsigned>(x.rows), threads_of(x.columns), 0, queue->stream>>>(
      x, gain, eps, y);
  return launched();
}

int layer_norm(Queue* queue, ConstView x, const float* gain, const float* bias, float eps, View y) {
  if (x.rows == 0) return 0;
  layer_norm_kernel<<<static_cast<unsigned>(x.rows), threads_of(x.columns), 0, queue->stream>>>(
      x, gain, bias, eps, y);
  return launched();
}

}  // namespace qwb::cuda
