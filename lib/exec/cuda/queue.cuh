// The order of work on one GPU, and what every kernel file needs to put work into it.
#pragma once

#include <cuda_runtime.h>

#include "lib/exec/cuda/interface.h"

namespace qwb::cuda {

constexpr int kScratches = 2;

struct Queue {
  int device = 0;
  int major = 0;  // of its compute capability
  cudaStream_t stream = nullptr;
  // Small uploads wait for nothing: a ring of pinned memory, taken up again once all before ended.
  unsigned char* ring = nullptr;
  int64_t ring_at = 0;
  // Large ones go through two pinned buffers by turns.
  unsigned char* staging[2] = {nullptr, nullptr};
  cudaEvent_t staged[2] = {nullptr, nullptr};
  // Grown as asked for; contents live until the next operation that takes the same one.
  void* scratch[kScratches] = {nullptr, nullptr};
  int64_t scratch_bytes[kScratches] = {0, 0};
};

// At least so many bytes of the device's memory.
int reserve(Queue& queue, int number, int64_t bytes, void** data);
// What lies in the host's memory, in a scratch of the device's.
int to_scratch(Queue& queue, int number, const void* host, int64_t bytes, void** data);
int upload_now(Queue& queue, const void* host, void* data, int64_t bytes);

// The launch before this failed, or 0.
inline int launched() {
  return cudaGetLastError();
}

// Before the launch of a kernel that takes so much shared memory.
template <class Kernel>
int allow_shared(Kernel kernel, int bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

inline bool dense(const View& x) {
  return x.stride == x.columns || x.rows < 2;
}
inline bool dense(const ConstView& x) {
  return x.stride == x.columns || x.rows < 2;
}

inline unsigned blocks_of(int64_t items, int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}

// What the sum of a block's values is, in an order that its size alone decides. Every thread calls
// it and gets it; shared [32] is free again after the next __syncthreads().
template <class T>
__device__ T sum_of_warp(T value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}
// The lanes' sums of R values: that of value lane / (32 / R) is returned.
template <int R>
__device__ float sum_of_lanes(float (&values)[R], int lane) {
  int step = 16;
#pragma unroll
  for (int half = R / 2; half > 0; half /= 2, step /= 2) {
    const bool upper = (lane & step) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float sent = upper ? values[i] : values[i + half];
      const float kept = upper ? values[i + half] : values[i];
      values[i] = kept + __shfl_xor_sync(0xffffffffu, sent, step);
    }
  }
  float sum = values[0];
#pragma unroll
  for (; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return sum;
}

template <class T>
__device__ T sum_of_block(T value, T* shared) {
  value = sum_of_warp(value);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = (blockDim.x + 31) / 32;
  __syncthreads();
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  return sum_of_warp(lane < warps ? shared[lane] : T(0));
}
__device__ inline float max_of_block(float value, float* shared) {
  for (int step = 16; step > 0; step /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = (blockDim.x + 31) / 32;
  __syncthreads();
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  value = lane < warps ? shared[lane] : -INFINITY;
  for (int step = 16; step > 0; step /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

}  // namespace qwb::cuda
