// Products of few rows with weights of any form and size, value by value. Every row has the bits it
// has alone: its sum runs in the same order however many rows there are.
#include "lib/exec/cuda/decode.h"
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {
namespace {

constexpr int kWarps = 4;

__device__ void finish_value(View y, int64_t row, int64_t channel, float sum, const float* bias,
                             int add) {
  if (bias != nullptr) sum += bias[channel];
  float* to = y.data + row * y.stride + channel;
  *to = add != 0 ? *to + sum : sum;
}

// Stored [out, in]: a warp for one output channel.
template <Form F, int M>
__global__ void rows_kernel(ConstView x, StoredWeight weight, const float* bias, View y, int add) {
  const int lane = threadIdx.x % 32;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (channel >= weight.out) return;
  float sums[M] = {};
  for (int64_t c = lane; c < weight.in; c += 32) {
    const float value = stored_value<F>(weight, channel, c);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      if (m < x.rows) sums[m] = fmaf(x.data[m * x.stride + c], value, sums[m]);
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
    const float sum = sum_of_warp(sums[m]);
    if (lane == 0 && m < x.rows) finish_value(y, m, channel, sum, bias, add);
  }
}

// Stored [in, out]: a thread for an output channel and every eighth input, so that reading is
// coalesced; the eight are added in order.
constexpr int kParts = 8;
template <Form F, int M>
__global__ void columns_kernel(ConstView x, StoredWeight weight, const float* bias, View y,
                               int add) {
  __shared__ float partial[M][kParts][32];
  const int lane = threadIdx.x % 32, part = threadIdx.x / 32;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * 32 + lane;
  float sums[M] = {};
  for (int64_t c = part; c < weight.in && channel < weight.out; c += kParts) {
    const float value = stored_value<F>(weight, c, channel);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      if (m < x.rows) sums[m] = fmaf(x.data[m * x.stride + c], value, sums[m]);
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) partial[m][part][lane] = sums[m];
  __syncthreads();
  if (channel >= weight.out) return;
  for (int m = part; m < x.rows; m += kParts) {
    float sum = 0;
    for (int i = 0; i < kParts; ++i) sum += partial[m][i][lane];
    finish_value(y, m, channel, sum, bias, add);
  }
}

template <Form F, int M>
int launch(Queue* queue, ConstView x, const StoredWeight& weight, const float* bias, View y,
           int add) {
  if (weight.in_out != 0) {
    columns_kernel<F, M>
        <<<blocks_of(weight.out, 32), 32 * kParts, 0, queue->stream>>>(x, weight, bias, y, add);
  } else {
    rows_kernel<F, M>
        <<<blocks_of(weight.out, kWarps), 32 * kWarps, 0, queue->stream>>>(x, weight, bias, y, add);
  }
  return launched();
}

template <Form F>
int launch_for(Queue* queue, ConstView x, const StoredWeight& weight, const float* bias, View y,
               int add) {
  return x.rows == 1 ? launch<F, 1>(queue, x, weight, bias, y, add)
                     : launch<F, kFewRows>(queue, x, weight, bias, y, add);
}

}  // namespace

int few_plain(Queue* queue, ConstView x, const StoredWeight* weight, const float* bias, View y,
              int add) {
  switch (weight->form) {
    case Form::dense:
      return launch_for<Form::dense>(queue, x, *weight, bias, y, add);
    case Form::grid:
      return launch_for<Form::grid>(queue, x, *weight, bias, y, add);
    case Form::int8_rows:
      return launch_for<Form::int8_rows>(queue, x, *weight, bias, y, add);
    case Form::float_blocks:
      return launch_for<Form::float_blocks>(queue, x, *weight, bias, y, add);
    default:
      return launch_for<Form::ggml_blocks>(queue, x, *weight, bias, y, add);
  }
}

}  // namespace qwb::cuda
