// Dense f32 algebra for second moments. Every product runs single-threaded on tiles of fixed shape
// inside parallel items, so that the bits do not depend on the number of threads (they do depend on
// the instruction set, through oneDNN's kernels).
#pragma once

#include <cstdint>

#include "lib/base/context.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/tensor/tensor.h"

namespace qwb {

constexpr int64_t kFactorBlock = 128;

// The upper Cholesky factor R of a positive definite matrix: A = R R^T, found from the last column
// to the first. Its inverse U is the factor of GPTQ: A^-1 = U^T U; the solver needs only the
// diagonal blocks of U, so the full inverse is never made.
struct UpperFactor {
  int64_t size = 0;
  FloatBuffer upper;     // R [size, size] row-major; below the diagonal blocks A is left as it was
  FloatBuffer inverses;  // [blocks, 128, 128]: the inverses of R's diagonal blocks, zero below the
                         // diagonal and beyond the size
  int64_t blocks() const { return ceil_div(size, kFactorBlock); }
  const float* inverse(int64_t block) const {
    return inverses.data() + block * kFactorBlock * kFactorBlock;
  }
};

// Factorizes in place: factor.upper holds A (its upper triangle is read, and replaced). Diagonal
// blocks are factorized and inverted in f64. False, with the contents undefined, if a pivot is not
// above minimum_pivot (NaN included). size^3 / 3 multiply-adds.
bool factorize_upper(UpperFactor& factor, double minimum_pivot, const Context& context = {});

// x [size, columns] becomes A^-1 x. On the calling thread.
void solve_factored(const UpperFactor& factor, float* x, int64_t columns);

}  // namespace qwb
