// Dense f32 algebra for second moments. Every product runs single-threaded on tiles of fixed shape
// inside parallel items, so that the bits do not depend on the number of threads (they do depend on
// the instruction set, through oneDNN's kernels).
#pragma once

#include <cstdint>
#include <vector>

#include "lib/base/context.h"
#include "lib/exec/calibration.h"

namespace qwb {

// UpperFactor as the processor reads it.
struct HostFactor {
  explicit HostFactor(const UpperFactor& factor);
  int64_t size;
  float *upper, *inverses, *diagonal;
  int64_t blocks() const { return ceil_div(size, kFactorBlock); }
  const float* inverse(int64_t block) const {
    return inverses + block * kFactorBlock * kFactorBlock;
  }
};

// CalibrationOps::factorize.
bool factorize_damped(const float* hessian, const Damping& damping, const HostFactor& factor,
                      const Context& context);

// Factorizes in place: factor.upper holds A (its upper triangle is read, and replaced). Diagonal
// blocks are factorized and inverted in f64. False, with the contents undefined, if a pivot is not
// above minimum_pivot (NaN included). size^3 / 3 multiply-adds.
bool factorize_upper(const HostFactor& factor, double minimum_pivot, const Context& context = {});

// x [size, columns] becomes A^-1 x. On the calling thread.
void solve_factored(const HostFactor& factor, float* x, int64_t columns);

// x H x^T of every row of x [rows, columns], with H symmetric (its upper triangle is read);
// products in f32, sums over them in f64. Tiles of 128 rows or so make the best of the pass over H.
std::vector<double> quadratic_forms(const float* x, int64_t rows, const float* hessian,
                                    int64_t columns);

}  // namespace qwb
