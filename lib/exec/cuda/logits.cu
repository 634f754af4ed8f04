// What is asked of rows of logits: whether they are finite, losses and divergences in f64 sums. One
// block for one row; the order of a sum follows from the width alone.
#include "lib/exec/cuda/operations.cuh"
#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {
namespace {

constexpr int kThreads = 512;

__global__ void mark_kernel(ConstView x, float* mark) {
  // Any thread that finds one writes the same.
  const int64_t count = x.rows * x.columns;
  bool finite = true;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x)
    finite = finite && isfinite(x.data[i]);
  if (!finite) *mark = 0;
}

// Few values: one block tells it all.
__global__ void mark_few_kernel(ConstView x, float* mark) {
  bool finite = true;
  const int count = static_cast<int>(x.rows * x.columns);
#pragma unroll 4
  for (int i = threadIdx.x; i < count; i += blockDim.x) finite = isfinite(x.data[i]) && finite;
  finite = __syncthreads_and(finite) != 0;
  if (threadIdx.x == 0) *mark = finite ? 1.0f : 0.0f;
}

__global__ void set_kernel(float* mark, float value) {
  *mark = value;
}

__global__ void begin_kernel(int64_t rows, RunningLoss* losses) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row < rows) losses[row] = {0, -INFINITY, 0};
}

__global__ void losses_kernel(ConstView logits, int64_t first, const int32_t* targets,
                              RunningLoss* losses) {
  __shared__ float shared[32];
  __shared__ double sums[32];
  const float* row = logits.data + blockIdx.x * logits.stride;
  RunningLoss& loss = losses[blockIdx.x];
  const RunningLoss before = loss;
  float largest = before.maximum;
  bool finite = true;
  for (int64_t c = threadIdx.x; c < logits.columns; c += blockDim.x) {
    finite = finite && isfinite(row[c]);
    largest = fmaxf(largest, row[c]);
  }
  largest = max_of_block(largest, shared);
  double sum = 0;
  for (int64_t c = threadIdx.x; c < logits.columns; c += blockDim.x)
    sum += static_cast<double>(expf(row[c] - largest));
  sum = sum_of_block(sum, sums);
  // Maxima may drop a NaN: it is looked for.
  const bool all_finite = __syncthreads_and(finite) != 0;
  if (threadIdx.x != 0) return;
  if (before.maximum > -INFINITY)
    sum += before.sum * exp(static_cast<double>(before.maximum) - static_cast<double>(largest));
  if (!all_finite || isnan(before.sum)) sum = NAN;
  const int64_t target = targets[blockIdx.x] - first;
  const bool here = target >= 0 && target < logits.columns;
  loss = {sum, largest, here ? row[target] : before.chosen};
}

// The lowest index of a largest value.
struct Top {
  float value;
  int64_t index;
};
__device__ Top better(Top a, Top b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}
__device__ Top top_of_row(const float* row, int64_t columns, Top* shared) {
  Top top = {-INFINITY, columns};
  for (int64_t c = threadIdx.x; c < columns; c += blockDim.x) top = better(top, {row[c], c});
  __syncthreads();
  shared[threadIdx.x] = top;
  __syncthreads();
  for (unsigned step = blockDim.x / 2; step > 0; step /= 2) {
    if (threadIdx.x < step)
      shared[threadIdx.x] = better(shared[threadIdx.x], shared[threadIdx.x + step]);
    __syncthreads();
  }
  return shared[0];
}

__device__ bool finite_row(const float* row, int64_t columns) {
  bool finite = true;
  for (int64_t c = threadIdx.x; c < columns; c += blockDim.x) finite = finite && isfinite(row[c]);
  return finite;
}

__global__ void divergence_kernel(ConstView base, ConstView other, const int32_t* targets,
                                  Divergence* differences) {
  __shared__ Top tops[kThreads];
  __shared__ double sums[32];
  const int64_t columns = base.columns;
  const float *a = base.data + blockIdx.x * base.stride,
              *b = other.data + blockIdx.x * other.stride;
  if (__syncthreads_and(finite_row(a, columns) && finite_row(b, columns)) == 0) {
    if (threadIdx.x == 0) differences[blockIdx.x] = {0, 0, 0, 0, 0, 0};
    return;
  }
  const Top a_top = top_of_row(a, columns, tops), b_top = top_of_row(b, columns, tops);
  const auto a0 = static_cast<double>(a_top.value), b0 = static_cast<double>(b_top.value);
  double a_sum = 0, b_sum = 0, difference = 0;
  for (int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    const auto x = static_cast<double>(a[c]), y = static_cast<double>(b[c]);
    const double p = exp(x - a0);
    a_sum += p;
    b_sum += exp(y - b0);
    difference += p * (x - y);
  }
  a_sum = sum_of_block(a_sum, sums);
  b_sum = sum_of_block(b_sum, sums);
  difference = sum_of_block(difference, sums);
  if (threadIdx.x != 0) return;
  const double a_log = a0 + log(a_sum), b_log = b0 + log(b_sum);
  const double kl = difference / a_sum - a_log + b_log;
  const int32_t target = targets[blockIdx.x];
  // Rounding may leave a divergence of nothing a little below zero.
  differences[blockIdx.x] = {kl > 0 ? kl : 0,
                             a_log - static_cast<double>(a[target]),
                             b_log - static_cast<double>(b[target]),
                             a_top.index,
                             b_top.index,
                             1};
}

}  // namespace

int mark_finite(Queue* queue, ConstView x, float* mark) {
  const int64_t count = x.rows * x.columns;
  if (count <= 16384) {
    mark_few_kernel<<<1, 1024, 0, queue->stream>>>(x, mark);
    return launched();
  }
  set_kernel<<<1, 1, 0, queue->stream>>>(mark, 1.0f);
  const int64_t wanted = (count + 8 * kThreads - 1) / (8 * kThreads);
  mark_kernel<<<static_cast<unsigned>(wanted < 1024 ? wanted : 1024), kThreads, 0, queue->stream>>>(
      x, mark);
  return launched();
}

int begin_losses(Queue* queue, int64_t rows, RunningLoss* losses) {
  begin_kernel<<<blocks_of(rows, kThreads), kThreads, 0, queue->stream>>>(rows, losses);
  return launched();
}

int add_losses(Queue* queue, ConstView logits, int64_t first, const int32_t* targets,
               RunningLoss* losses) {
  losses_kernel<<<static_cast<unsigned>(logits.rows), kThreads, 0, queue->stream>>>(
      logits, first, targets, losses);
  return launched();
}

int divergence(Queue* queue, ConstView base, ConstView other, const int32_t* targets,
               Divergence* differences) {
  divergence_kernel<<<static_cast<unsigned>(base.rows), kThreads, 0, queue->stream>>>(
      base, other, targets, differences);
  return launched();
}

}  // namespace qwb::cuda
