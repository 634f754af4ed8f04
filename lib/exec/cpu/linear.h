// The fast executor's products of activations with weights.
#pragma once

#include <optional>
#include <span>

#include "lib/exec/executor.h"

namespace qwb {

// How products are computed.
struct LinearWays {
  Products products = Products::f32;
  // Products with int8 rows take activations of 8 bits (int8_product.h), outliers from here on.
  std::optional<float> int8_threshold = {};
  Threads threads = {};

  bool in_8_bits(const Weight& weight) const;
};

// Weights of more values are packed anew for every product: kept, they would take much memory.
constexpr int64_t kMostPacked = 4 << 20;

// As the Executor's operations of these names, operands in the host's memory.
Prepared prepare_linear(const LinearWays& ways, const Weight& weight, Reuse reuse);
void linear(const LinearWays& ways, const Rows& x, const Affine& module, Out y,
            Accumulate accumulate);
void linears(const LinearWays& ways, const Rows& x, std::span<const Executor::Output> outputs);

}  // namespace qwb
