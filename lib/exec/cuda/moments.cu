// What calibration does with activations and moments, value by value.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/queue.cuh"
#include "lib/exec/cuda/rounding.h"

namespace qwb::cuda {
namespace {

constexpr int kEach = 256;
constexpr int kTransposed = 32;  // rows and columns that change places together

// What a row is divided by: a power of two that brings its largest magnitude below 2^15.
__device__ int shift_of(float largest) {
  int exponent = 0;
  if (largest > 0) frexpf(largest, &exponent);
  exponent -= 15;
  return exponent < -100 ? -100 : exponent > 100 ? 100 : exponent;
}

__global__ void to_halves_kernel(ConstView x, uint16_t* halves, float* scales) {
  __shared__ float shared[32];
  const int64_t row = blockIdx.x;
  const float* from = x.data + row * x.stride;
  float largest = 0;
  for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x)
    largest = larger(largest, fabsf(from[c]));
  const int shift = shift_of(max_of_block(largest, shared));
  const float factor = ldexpf(1.0f, -shift);
  if (threadIdx.x == 0) scales[row] = ldexpf(1.0f, shift);
  for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x)
    halves[row * x.columns + c] = to_f16(from[c] * factor);
}

__global__ void from_halves_kernel(const uint16_t* halves, const float* scales, View x) {
  const int64_t row = blockIdx.y, c = static_cast<int64_t>(blockIdx.x) * kEach + threadIdx.x;
  if (c < x.columns)
    x.data[row * x.stride + c] = from_f16(halves[row * x.columns + c]) * scales[row];
}

__global__ void subtract_kernel(View x, ConstView y) {
  const int64_t row = blockIdx.y, c = static_cast<int64_t>(blockIdx.x) * kEach + threadIdx.x;
  if (c < x.columns) x.data[row * x.stride + c] -= y.data[row * y.stride + c];
}

// A thread sums a column, so that the order is that of the rows.
__global__ void add_columns_kernel(ConstView x, int magnitudes, double* sums) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= x.columns) return;
  double sum = sums[c];
#pragma unroll 8
  for (int64_t r = 0; r < x.rows; ++r) {
    const float value = x.data[r * x.stride + c];
    sum += static_cast<double>(magnitudes != 0 ? fabsf(value) : value);
  }
  sums[c] = sum;
}

__global__ void take_out_means_kernel(View m, const double* left, const double* right,
                                      double tokens) {
  const int64_t row = blockIdx.y, c = static_cast<int64_t>(blockIdx.x) * kEach + threadIdx.x;
  if (c >= m.columns) return;
  const double factor = left[row] / tokens;
  float& value = m.data[row * m.stride + c];
  value = static_cast<float>(static_cast<double>(value) - factor * right[c]);
}

// y = x^T of tiles; Mirror: below the diagonal only, in place.
template <bool Mirror>
__global__ void transpose_kernel(ConstView x, View y) {
  __shared__ float tile[kTransposed][kTransposed + 1];
  if (Mirror && blockIdx.x > blockIdx.y) return;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kTransposed,
                first_column = static_cast<int64_t>(blockIdx.y) * kTransposed;
  for (int i = threadIdx.y; i < kTransposed; i += blockDim.y) {
    const int64_t r = first_row + i, c = first_column + threadIdx.x;
    if (r < x.rows && c < x.columns) tile[i][threadIdx.x] = x.data[r * x.stride + c];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kTransposed; i += blockDim.y) {
    const int64_t r = first_column + i, c = first_row + threadIdx.x;
    if (r >= y.rows || c >= y.columns || (Mirror && c >= r)) continue;
    y.data[r * y.stride + c] = tile[threadIdx.x][i];
  }
}

__global__ void clear_diagonal_kernel(View h) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kEach + threadIdx.x;
  if (i >= h.rows) return;
  float& value = h.data[i * h.stride + i];
  value = larger(value, 0.0f);
}

__global__ void scale_moments_kernel(ConstView h, const float* scales, View scaled) {
  const int64_t row = blockIdx.y, c = static_cast<int64_t>(blockIdx.x) * kEach + threadIdx.x;
  if (c >= h.columns) return;
  const float both = scales[row] * scales[c];
  scaled.data[row * scaled.stride + c] = h.data[row * h.stride + c] / both;
}

__global__ void add_forms_kernel(ConstView x, ConstView product, double* sums) {
  __shared__ double shared[32];
  const int64_t row = blockIdx.x;
  double sum = 0;
  for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x)
    sum += static_cast<double>(product.data[row * product.stride + c]) *
           static_cast<double>(x.data[row * x.stride + c]);
  sum = sum_of_block(sum, shared);
  if (threadIdx.x == 0) sums[row] += sum;
}

dim3 by_rows(int64_t rows, int64_t columns) {
  return {blocks_of(columns, kEach), static_cast<unsigned>(rows), 1};
}

// body(first, rows): as many rows as a grid's second side holds.
template <class Body>
int each_rows(int64_t rows, const Body& body) {
  constexpr int64_t kMost = 32768;
  for (int64_t first = 0; first < rows; first += kMost) {
    body(first, rows - first < kMost ? rows - first : kMost);
    if (const int code = launched(); code != 0) return code;
  }
  return 0;
}

template <class V>
V rows_from(V x, int64_t first) {
  x.data += first * x.stride;
  return x;
}

template <bool Mirror>
int launch_transpose(Queue* queue, ConstView x, View y) {
  const dim3 grid(blocks_of(x.rows, kTransposed), blocks_of(x.columns, kTransposed));
  transpose_kernel<Mirror><<<grid, dim3(kTransposed, 8), 0, queue->stream>>>(x, y);
  return launched();
}

}  // namespace

int download(Queue* queue, const void* data, void* host, int64_t bytes) {
  const int code = cudaMemcpyAsync(host, data, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost,
                                   queue->stream);
  return code != 0 ? code : cudaStreamSynchronize(queue->stream);
}

int to_halves(Queue* queue, ConstView x, uint16_t* halves, float* scales) {
  if (x.rows * x.columns == 0) return 0;
  to_halves_kernel<<<static_cast<unsigned>(x.rows), kEach, 0, queue->stream>>>(x, halves, scales);
  return launched();
}

int from_halves(Queue* queue, const uint16_t* halves, const float* scales, View x) {
  if (x.columns == 0) return 0;
  return each_rows(x.rows, [&](int64_t first, int64_t rows) {
    from_halves_kernel<<<by_rows(rows, x.columns), kEach, 0, queue->stream>>>(
        halves + first * x.columns, scales + first, rows_from(x, first));
  });
}

int subtract(Queue* queue, View x, ConstView y) {
  if (x.columns == 0) return 0;
  return each_rows(x.rows, [&](int64_t first, int64_t rows) {
    subtract_kernel<<<by_rows(rows, x.columns), kEach, 0, queue->stream>>>(rows_from(x, first),
                                                                           rows_from(y, first));
  });
}

int subtract_row(Queue* queue, View x, const float* row) {
  return subtract(queue, x, {row, x.rows, x.columns, 0});
}

int add_columns(Queue* queue, ConstView x, int magnitudes, double* sums) {
  if (x.columns == 0) return 0;
  constexpr int kColumns = 32;  // few to a block: there are more processors than blocks of columns
  add_columns_kernel<<<blocks_of(x.columns, kColumns), kColumns, 0, queue->stream>>>(x, magnitudes,
                                                                                     sums);
  return launched();
}

int take_out_means(Queue* queue, View m, const double* left, const double* right, double tokens) {
  if (m.columns == 0) return 0;
  return each_rows(m.rows, [&](int64_t first, int64_t rows) {
    take_out_means_kernel<<<by_rows(rows, m.columns), kEach, 0, queue->stream>>>(
        rows_from(m, first), left + first, right, tokens);
  });
}

int transpose(Queue* queue, ConstView x, View y) {
  return x.rows * x.columns == 0 ? 0 : launch_transpose<false>(queue, x, y);
}

int mirror(Queue* queue, View h) {
  if (h.rows == 0) return 0;
  return launch_transpose<true>(queue, {h.data, h.rows, h.columns, h.stride}, h);
}

int clear_negative_diagonal(Queue* queue, View h) {
  if (h.rows == 0) return 0;
  clear_diagonal_kernel<<<blocks_of(h.rows, kEach), kEach, 0, queue->stream>>>(h);
  return launched();
}

int scale_moments(Queue* queue, ConstView h, const float* scales, View scaled) {
  if (h.rows == 0) return 0;
  scale_moments_kernel<<<by_rows(h.rows, h.columns), kEach, 0, queue->stream>>>(h, scales, scaled);
  return launched();
}

int add_forms(Queue* queue, ConstView x, ConstView product, double* sums) {
  if (x.rows == 0) return 0;
  add_forms_kernel<<<static_cast<unsigned>(x.rows), 128, 0, queue->stream>>>(x, product, sums);
  return launched();
}

}  // namespace qwb::cuda
