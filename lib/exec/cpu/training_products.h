// The products of training on the processor, operands in its memory (training.h says what they
// are). Sums have an order of their own, whatever the number of threads.
#pragma once

#include "lib/exec/cpu/linear.h"
#include "lib/exec/cpu/matmul.h"

namespace qwb {

// C = alpha A B + keep C over tiles of fixed shape; A may be transposed.
void tiled_product(const GemmShape& shape, const Factor& a, const Factor& b, const Sum& c,
                   float alpha, Threads threads);

// dx = dy W, or dx += that.
void linear_back(Products products, In dy, const Weight& weight, Out dx, bool add, Threads threads);

// As TrainingOps::losses_back. Throws unsupported for a weight stored [in, out].
struct LossTask {
  std::span<const int32_t> targets;
  std::span<const float> factors;
  LogitShape shape;
  std::span<double> losses;
};
void losses_back(Products products, In x, const Weight& weight, const LossTask& task, Out dx,
                 Threads threads);

}  // namespace qwb
