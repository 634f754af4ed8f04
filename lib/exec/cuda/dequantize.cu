// Stored weights as f32, bit for bit as the processor decodes them (decode.h), and rearranged for
// products of few rows.
#include "lib/exec/cuda/decode.h"
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/queue.cuh"
#include "lib/exec/cuda/tensor_cores.cuh"

namespace qwb::cuda {
namespace {

constexpr int kThreads = 128;

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

// Eight values of a row from a column that is a multiple of eight; zero beyond the row.
template <Form F>
__device__ void eight_values(const StoredWeight& w, int64_t channel, int64_t column,
                             float (&values)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int64_t at = column + i;
    values[i] = at >= w.in      ? 0.0f
                : w.in_out != 0 ? stored_value<F>(w, at, channel)
                                : stored_value<F>(w, channel, at);
  }
}

// Codes in order, of groups that hold whole eights: they begin at a byte. Times their scale, or
// not.
__device__ void eight_codes(const StoredWeight& w, int64_t channel, int64_t column, bool scaled,
                            float (&values)[8]) {
  const unsigned char* at = w.codes + channel * w.row_bytes + column / 8 * w.bits;
  uint64_t codes = 0;
  for (int i = 0; i < w.bits; ++i) codes |= static_cast<uint64_t>(at[i]) << (8 * i);
  const int64_t group = quotient(column, w.group);
  const float zero = zero_point(w, channel, group);
  const float scale = scaled ? grid_scale(w, channel, group) : 1.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const auto code = static_cast<uint32_t>(codes >> (i * w.bits)) & ((1u << w.bits) - 1);
    values[i] = (static_cast<float>(code) - zero) * scale;
  }
}

// Float blocks of whole eights.
__device__ void eight_floats(const StoredWeight& w, const float* table, int64_t channel,
                             int64_t column, float (&values)[8]) {
  const int64_t index = channel * w.in + column;
  const float scale = block_scale(w, quotient(index, w.scale_block));
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned char byte = w.codes[index / 2 + i];
    values[2 * i] = table[byte >> 4] * scale;
    values[2 * i + 1] = table[byte & 15] * scale;
  }
}

// What the codes of a row's group are multiplied by.
__device__ float scale_of(const StoredWeight& w, int64_t channel, int64_t group) {
  if (w.form == Form::int8_rows)
    return reinterpret_cast<const float*>(w.scales)[channel] * kInverse127;
  return grid_scale(w, channel, group);
}

// Eight values for parts: of scaled parts codes, of others what they stand for.
template <Form F>
__device__ void eight_of(const StoredWeight& w, const float* table, int64_t channel, int64_t column,
                         bool eights, bool scaled, float (&values)[8]) {
  if (F == Form::int8_rows && scaled) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      values[i] = column + i < w.in ? static_cast<float>(static_cast<signed char>(
                                          w.codes[channel * w.row_bytes + column + i]))
                                    : 0.0f;
    }
  } else if (F == Form::grid && eights && column < w.in) {
    eight_codes(w, channel, column, !scaled, values);
  } else if (F == Form::grid && scaled) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int64_t at = column + i;
      values[i] = at < w.in ? grid_difference(w, channel, at, group_of(w, at)) : 0.0f;
    }
  } else if (F == Form::float_blocks && eights && column < w.in) {
    eight_floats(w, table, channel, column, values);
  } else {
    eight_values<F>(w, channel, column, values);
  }
}

template <Form F>
__global__ void parts_kernel(StoredWeight weight, int64_t first, Parts to, bool eights) {
  __shared__ float table[16];
  if (threadIdx.x < 16) table[threadIdx.x] = weight.table[threadIdx.x];
  __syncthreads();
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t column = thread * 8;
  if (column >= to.columns) return;
  const bool scaled = to.scales != nullptr;
  for (int64_t row = blockIdx.y; row < to.rows; row += gridDim.y) {
    float values[8];
    eight_of<F>(weight, table, first + row, column, eights, scaled, values);
    uint32_t parts[4][3];
#pragma unroll
    for (int i = 0; i < 4; ++i) split_pair(values[2 * i], values[2 * i + 1], parts[i]);
#pragma unroll
    for (int p = 0; p < 3; ++p) {
      if (p >= to.count) break;
      *reinterpret_cast<uint4*>(to.data + (p * to.rows + row) * to.columns + column) =
          make_uint4(parts[0][p], parts[1][p], parts[2][p], parts[3][p]);
    }
    for (int64_t group = thread; scaled && group < to.groups; group += to.columns / 8)
      to.scales[row * to.groups + group] = scale_of(weight, first + row, group);
  }
}

// Whether eight values of a row from a multiple of eight share a scale.
bool has_eights(const StoredWeight& w) {
  if (w.in_out != 0 || w.in % 8 != 0) return false;
  if (w.form == Form::grid) return w.group_index == nullptr && (w.group % 8 == 0 || w.groups == 1);
  return w.form == Form::float_blocks && w.scale_block % 8 == 0;
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

int dequantize_parts(Queue* queue, const StoredWeight* weight, int64_t first, Parts to) {
  if (to.rows == 0) return 0;
  const bool eights = has_eights(*weight);
  return by_form(*weight, [&](auto form) {
    parts_kernel<decltype(form)::form>
        <<<grid_of(to.rows, to.columns / 8), kThreads, 0, queue->stream>>>(*weight, first, to,
                                                                           eights);
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
