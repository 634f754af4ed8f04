// Exact arithmetic on tensor cores: what they multiply are bf16, so an f32 goes in as the sum of
// three bf16, which it is exactly. Products of two bf16 are exact in f32, and are summed in f32;
// the sums of tensor cores are cut off, not rounded, so only short ones are left to them. Cards of
// compute capability 8.0 and above.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "lib/exec/cuda/queue.cuh"

namespace qwb::cuda {

inline bool has_tensor_cores(const Queue& queue) {
  return queue.major >= 8;
}

// c [16, 8] += a [16, 16] b [16, 8]; how lanes hold them: PTX's mma.m16n8k16.
__device__ __forceinline__ void multiply_tile(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Four matrices of 8 x 8 from shared memory, whose rows (or columns) lie at the lanes' addresses.
template <bool Transposed>
__device__ __forceinline__ void read_matrices(uint32_t at, uint32_t& a, uint32_t& b, uint32_t& c,
                                              uint32_t& d) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(at));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(at));
  }
#endif
}

// Where 16 bytes of a row of 32 values lie in a plane of such rows: turned, so that eight rows are
// in different banks.
__device__ __forceinline__ uint32_t spot_of_row(int row, int chunk) {
  return static_cast<uint32_t>(row * 64 + (chunk ^ (row >> 1 & 3)) * 16);
}

// The bits of the nearest bf16 of two values, the first in the low half.
__device__ __forceinline__ uint32_t pair_of(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float low_of(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float high_of(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

// Two values as sums of three bf16 each.
__device__ __forceinline__ void split_pair(float low, float high, uint32_t (&parts)[3]) {
#pragma unroll
  for (int p = 0; p < 3; ++p) {
    parts[p] = pair_of(low, high);
    low -= low_of(parts[p]), high -= high_of(parts[p]);
  }
}

// Copies 16 bytes (or zeros) from global to shared memory, some time before wait_for(). What was
// copied since the last end_of_copies() is one group.
__device__ __forceinline__ void copy_later(uint32_t to, const void* from, bool there = true) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(there ? 16 : 0));
#endif
}
__device__ __forceinline__ void end_of_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;");
#endif
}
// Until no more than the last `Left` groups of this thread are missing.
template <int Left>
__device__ __forceinline__ void wait_for() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
#endif
}

}  // namespace qwb::cuda
