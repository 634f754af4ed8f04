// One thread for one value or pair, in any order: nothing is summed but a row of scatter_add, whose
// thread adds in ascending order.
#include "lib/exec/cuda/activation.cuh"
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {
namespace {

constexpr int kThreads = 256;

// x[i] = function(i, x[i]) for the values of a dense view.
template <class Function>
__global__ void each_kernel(float* x, int64_t count, Function function) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) x[i] = function(i, x[i]);
}

template <class Function>
int each(Queue* queue, View x, Function function) {
  const int64_t count = x.rows * x.columns;
  if (count == 0) return 0;
  each_kernel<<<blocks_of(count, kThreads), kThreads, 0, queue->stream>>>(x.data, count, function);
  return launched();
}

struct Activate {
  const float* up;
  int activation;
  __device__ float operator()(int64_t i, float value) const {
    const float active = act(activation, value);
    return up != nullptr ? active * up[i] : active;
  }
};
struct Add {
  const float* y;
  __device__ float operator()(int64_t i, float value) const { return value + y[i]; }
};
struct Fill {
  float value;
  __device__ float operator()(int64_t, float) const { return value; }
};
struct Scale {
  float factor;
  __device__ float operator()(int64_t, float value) const { return value * factor; }
};
struct SoftCap {
  float scale, cap;
  __device__ float operator()(int64_t, float value) const {
    return cap * tanhf(value * scale / cap);
  }
};

// Pairs of all heads of all tokens.
__global__ void rotate_kernel(View x, int64_t head_dim, ConstView cosine, const float* sine,
                              int halves) {
  const int64_t turned = cosine.columns, pairs = x.columns / head_dim * turned;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= x.rows * pairs) return;
  const int64_t row = i / pairs, pair = i % pairs, k = pair % turned;
  float* head = x.data + row * x.stride + pair / turned * head_dim;
  float* first = head + (halves != 0 ? k : 2 * k);
  float* second = head + (halves != 0 ? k + turned : 2 * k + 1);
  const float c = cosine.data[row * turned + k], s = sine[row * turned + k];
  const float a = *first, b = *second;
  *first = a * c - b * s;
  *second = b * c + a * s;
}

__global__ void gather_kernel(ConstView x, const int64_t* rows, View y) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= y.rows * y.columns) return;
  const int64_t row = i / y.columns, column = i % y.columns;
  y.data[row * y.stride + column] = x.data[rows[row] * x.stride + column];
}

// A column: rows may be named twice.
__global__ void scatter_kernel(ConstView x, const int64_t* rows, const float* factors, View y) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= x.columns) return;
  for (int64_t row = 0; row < x.rows; ++row) {
    float* to = y.data + rows[row] * y.stride + column;
    *to = *to + factors[row] * x.data[row * x.stride + column];
  }
}

}  // namespace

int activate(Queue* queue, View x, const float* up, int activation) {
  return each(queue, x, Activate{up, activation});
}
int add(Queue* queue, View x, ConstView y) {
  return each(queue, x, Add{y.data});
}
int fill(Queue* queue, View x, float value) {
  return each(queue, x, Fill{value});
}
int scale(Queue* queue, View x, float factor) {
  return each(queue, x, Scale{factor});
}
int soft_cap(Queue* queue, View x, float scale, float cap) {
  return each(queue, x, SoftCap{scale, cap});
}

int rotate(Queue* queue, View x, int64_t head_dim, ConstView cosine, const float* sine,
           int halves) {
  const int64_t pairs = x.rows * (x.columns / head_dim) * cosine.columns;
  if (pairs == 0) return 0;
  rotate_kernel<<<blocks_of(pairs, kThreads), kThreads, 0, queue->stream>>>(x, head_dim, cosine,
                                                                            sine, halves);
  return launched();
}

int gather(Queue* queue, ConstView x, const int64_t* host_rows, View y) {
  if (y.rows * y.columns == 0) return 0;
  void* rows = nullptr;
  const int code = to_scratch(*queue, 0, host_rows, y.rows * 8, &rows);
  if (code != 0) return code;
  gather_kernel<<<blocks_of(y.rows * y.columns, kThreads), kThreads, 0, queue->stream>>>(
      x, static_cast<const int64_t*>(rows), y);
  return launched();
}

int scatter_add(Queue* queue, ConstView x, const int64_t* host_rows, const float* host_factors,
                View y) {
  if (x.rows * x.columns == 0) return 0;
  void *rows = nullptr, *factors = nullptr;
  int code = to_scratch(*queue, 0, host_rows, x.rows * 8, &rows);
  if (code == 0) code = to_scratch(*queue, 1, host_factors, x.rows * 4, &factors);
  if (code != 0) return code;
  scatter_kernel<<<blocks_of(x.columns, kThreads), kThreads, 0, queue->stream>>>(
      x, static_cast<const int64_t*>(rows), static_cast<const float*>(factors), y);
  return launched();
}

}  // namespace qwb::cuda
