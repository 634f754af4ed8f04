// Stored weights as f32, bit for bit as the processor decodes them (decode.h), and rearranged for
// products of few rows.
#include "lib/exec/cuda/decode.h"
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {
namespace {

constexpr int kThreads = 256;

// values [count, in]: output channels from `first` on.
template <Form F>
__global__ void dequantize_kernel(StoredWeight weight, int64_t first, View values) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= values.columns) return;
  for (int64_t row = blockIdx.y; row < values.rows; row += gridDim.y) {
    const int64_t channel = first + row;
    values.data[row * values.stride + column] = weight.in_out != 0
                                                    ? stored_value<F>(weight, column, channel)
                                                    : stored_value<F>(weight, channel, column);
  }
}

template <Form F>
__global__ void look_up_kernel(StoredWeight weight, const int32_t* ids, View y) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= y.columns) return;
  for (int64_t row = blockIdx.y; row < y.rows; row += gridDim.y)
    y.data[row * y.stride + column] = stored_value<F>(weight, ids[row], column);
}

__global__ void grid_kernel(StoredWeight weight, int bits, int64_t count, unsigned char* codes,
                            unsigned char* scales) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) ggml::grid_byte(weight, bits, i, codes, scales);
}

__global__ void plain_scales_kernel(StoredWeight weight, int64_t count, float* scales) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) scales[i] = block_scale(weight, i);
}

// Calls launch(std::integral_constant-like) for the form.
template <Form F>
struct Of {
  static constexpr Form form = F;
};
template <class Launch>
int by_form(const StoredWeight& weight, const Launch& launch) {
  switch (weight.form) {
    case Form::dense:
      launch(Of<Form::dense>());
      break;
    case Form::grid:
      launch(Of<Form::grid>());
      break;
    case Form::int8_rows:
      launch(Of<Form::int8_rows>());
      break;
    case Form::float_blocks:
      launch(Of<Form::float_blocks>());
      break;
    case Form::ggml_blocks:
      launch(Of<Form::ggml_blocks>());
      break;
  }
  return launched();
}

dim3 grid_of(int64_t rows, int64_t columns) {
  return {blocks_of(columns, kThreads), static_cast<unsigned>(rows < 32768 ? rows : 32768), 1};
}

}  // namespace

int dequantize(Queue* queue, const StoredWeight* weight, int64_t first, View values) {
  if (values.rows == 0) return 0;
  return by_form(*weight, [&](auto form) {
    dequantize_kernel<decltype(form)::form>
        <<<grid_of(values.rows, values.columns), kThreads, 0, queue->stream>>>(*weight, first,
                                                                               values);
  });
}

int look_up(Queue* queue, const StoredWeight* weight, const int32_t* ids, View y) {
  if (y.rows == 0) return 0;
  void* rows = nullptr;
  if (const int code = to_scratch(*queue, 0, ids, y.rows * 4, &rows); code != 0) return code;
  return by_form(*weight, [&](auto form) {
    look_up_kernel<decltype(form)::form>
        <<<grid_of(y.rows, y.columns), kThreads, 0, queue->stream>>>(
            *weight, static_cast<const int32_t*>(rows), y);
  });
}

int grid_of_ggml(Queue* queue, const StoredWeight* weight, int bits, unsigned char* codes,
                 unsigned char* scales) {
  const int64_t count = weight->out * (weight->in / weight->block) * 4 * bits;
  grid_kernel<<<blocks_of(count, kThreads), kThreads, 0, queue->stream>>>(*weight, bits, count,
                                                                          codes, scales);
  return launched();
}

int plain_scales(Queue* queue, const StoredWeight* weight, float* scales) {
  const int64_t count = (weight->out * weight->in + weight->scale_block - 1) / weight->scale_block;
  plain_scales_kernel<<<blocks_of(count, kThreads), kThreads, 0, queue->stream>>>(*weight, count,
                                                                                  scales);
  return launched();
}

}  // namespace qwb::cuda
