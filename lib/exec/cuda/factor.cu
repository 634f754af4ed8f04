// The factor of a damped H, block by block from the last (lib/exec/cpu/factor.h): diagonal blocks
// in f64. The products between them are those of multiply.cu.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {
namespace {

constexpr int kSide = static_cast<int>(kBlockColumns);
constexpr int kThreadsOf = 256;
constexpr int kAcross = 16;  // threads of a side; each has 8 x 8 values, 16 apart

__global__ void fill_kernel(ConstView h, const int32_t* order, double mean, double added,
                            Factors factor, int* bad) {
  const int64_t n = factor.size, i = blockIdx.x, source = order[i];
  const float* from = h.data + source * h.stride;
  const float own = from[source];
  const int64_t block = i / kSide * kSide;
  bool finite = true;
  for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
    float value = from[order[j]];
    finite = finite && isfinite(value);
    if (own == 0) value = j == i ? static_cast<float>(mean) : 0.0f;
    if (j == i) value = static_cast<float>(static_cast<double>(value) + added);
    factor.upper[i * n + j] = value;
    if (j >= block && j < block + kSide) factor.diagonal[i * kSide + j - block] = value;
  }
  for (int64_t j = threadIdx.x; j < kSide; j += blockDim.x) {
    if (block + j >= n) factor.diagonal[i * kSide + j] = 0;
  }
  if (!finite) *bad = 1;
}

// t = R R^T from the last column to the first. Thread (y, x) holds t[y + 16 a][x + 16 b].
__global__ void __launch_bounds__(kThreadsOf, 1)
    factorize_kernel(Factors factor, int64_t begin, int length, double minimum_pivot, double* room,
                     int* bad) {
  __shared__ double column[kSide];
  const int64_t n = factor.size;
  float* matrix = factor.upper + begin * n + begin;
  const int y = threadIdx.x / kAcross, x = threadIdx.x % kAcross;
  double t[8][8];
#pragma unroll
  for (int a = 0; a < 8; ++a) {
#pragma unroll
    for (int b = 0; b < 8; ++b) {
      const int i = y + kAcross * a, j = x + kAcross * b;
      t[a][b] = i <= j && j < length ? static_cast<double>(matrix[i * n + j]) : 0.0;
    }
  }
#pragma unroll
  for (int b = 7; b >= 0; --b) {
    for (int of = kAcross - 1; of >= 0; --of) {
      const int j = kAcross * b + of;
      if (j >= length) continue;
      __syncthreads();
      if (x == of) {
#pragma unroll
        for (int a = 0; a < 8; ++a) column[y + kAcross * a] = t[a][b];
      }
      __syncthreads();
      const double pivot = column[j];
      if (threadIdx.x == 0 && (!(pivot > minimum_pivot) || !isfinite(pivot))) *bad = 2;
      const double root = sqrt(pivot);
      __syncthreads();
      // A thread divides one value, not every thread sixteen: divisions are slow.
      const int own = threadIdx.x;
      if (own < kSide) column[own] = own < j ? column[own] / root : 0.0;
      __syncthreads();
      double below[8], across[8];
#pragma unroll
      for (int a = 0; a < 8; ++a)
        below[a] = column[y + kAcross * a], across[a] = column[x + kAcross * a];
#pragma unroll
      for (int a = 0; a < 8; ++a) {
#pragma unroll
        for (int c = 0; c < 8; ++c) t[a][c] -= below[a] * across[c];
        if (x == of) t[a][b] = y + kAcross * a == j ? root : below[a];
      }
    }
  }
#pragma unroll
  for (int a = 0; a < 8; ++a) {
#pragma unroll
    for (int b = 0; b < 8; ++b) {
      const int i = y + kAcross * a, j = x + kAcross * b;
      const double value = i <= j && j < length ? t[a][b] : 0.0;
      room[i * kSide + j] = value;
      if (i < length && j < length) matrix[i * n + j] = static_cast<float>(value);
    }
  }
}

// U = R^-1: from the last row up, each row that is finished is taken out of those above.
__global__ void __launch_bounds__(kThreadsOf, 1)
    invert_kernel(const double* r, int length, float* inverse) {
  __shared__ double column[kSide], finished[kSide];
  const int y = threadIdx.x / kAcross, x = threadIdx.x % kAcross;
  double u[8][8];
#pragma unroll
  for (int a = 0; a < 8; ++a) {
#pragma unroll
    for (int b = 0; b < 8; ++b)
      u[a][b] = y + kAcross * a == x + kAcross * b && y + kAcross * a < length ? 1.0 : 0.0;
  }
  const int own = threadIdx.x;
  double next = own < kSide ? r[own * kSide + length - 1] : 0;  // of the column that comes
#pragma unroll
  for (int a = 7; a >= 0; --a) {
    for (int of = kAcross - 1; of >= 0; --of) {
      const int k = kAcross * a + of;
      if (k >= length) continue;
      __syncthreads();
      if (own < kSide) column[own] = next;
      if (y == of) {
#pragma unroll
        for (int b = 0; b < 8; ++b) finished[x + kAcross * b] = u[a][b];
      }
      if (own < kSide && k > 0) next = r[own * kSide + k - 1];
      __syncthreads();
      if (own < kSide) finished[own] /= column[k];
      __syncthreads();
      if (y == of) {
#pragma unroll
        for (int b = 0; b < 8; ++b) u[a][b] = finished[x + kAcross * b];
      }
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int i = y + kAcross * c;
        const double factor = i < k ? column[i] : 0.0;
#pragma unroll
        for (int b = 0; b < 8; ++b) u[c][b] -= factor * finished[x + kAcross * b];
      }
    }
  }
#pragma unroll
  for (int a = 0; a < 8; ++a) {
#pragma unroll
    for (int b = 0; b < 8; ++b)
      inverse[(y + kAcross * a) * kSide + x + kAcross * b] = static_cast<float>(u[a][b]);
  }
}

}  // namespace

int fill_damped(Queue* queue, ConstView h, const int32_t* order, double mean, double added,
                Factors factor, int* bad) {
  if (factor.size == 0) return 0;
  fill_kernel<<<static_cast<unsigned>(factor.size), 256, 0, queue->stream>>>(h, order, mean, added,
                                                                             factor, bad);
  return launched();
}

int factorize_block(Queue* queue, Factors factor, int64_t block, double minimum_pivot, double* room,
                    int* bad) {
  const int64_t begin = block * kSide, left = factor.size - begin;
  const int length = static_cast<int>(left < kSide ? left : kSide);
  factorize_kernel<<<1, kThreadsOf, 0, queue->stream>>>(factor, begin, length, minimum_pivot, room,
                                                        bad);
  if (const int code = launched(); code != 0) return code;
  invert_kernel<<<1, kThreadsOf, 0, queue->stream>>>(room, length,
                                                     factor.inverses + block * kSide * kSide);
  return launched();
}

}  // namespace qwb::cuda
