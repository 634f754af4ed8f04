// Single-precision matrix products by oneDNN, called so that results do not depend on threads: every call
// runs in one thread, and large products are cut into tiles of fixed shape.
#pragma once

#include <cstdint>

namespace qwb {

// C [m, n] = A [m, k] B^T (B [n, k]) or A B (B [k, n]) when `transposed` is false; plus C if `add`. Row-major
// with strides in floats. Runs in the calling thread.
void matmul_tile(bool transposed, int64_t m, int64_t n, int64_t k, const float* a, int64_t stride_a,
                 const float* b, int64_t stride_b, float* c, int64_t stride_c, bool add, float alpha = 1.0f);

// The same on all threads, over tiles of kTokenTile x kChannelTile.
void matmul(bool transposed, int64_t m, int64_t n, int64_t k, const float* a, int64_t stride_a,
            const float* b, int64_t stride_b, float* c, int64_t stride_c, bool add);

// H [n, n] += X^T X for X [rows, n], both triangles, on all threads. Only the upper triangle is computed,
// then mirrored.
void add_moments(const float* x, int64_t rows, int64_t n, float* h);

}  // namespace qwb
