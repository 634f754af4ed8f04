// Single-precision matrix products by oneDNN, called so that results do not depend on threads:
// every call runs in one thread, and large products are cut into tiles of fixed shape.
#pragma once

#include <cstdint>

#include "lib/base/threads.h"
#include "lib/exec/cpu/tile_panels.h"
#include "lib/exec/executor.h"
#include "lib/tensor/tensor.h"

namespace qwb {

struct GemmShape {
  int64_t rows, columns, inner;
};

// A matrix of a product as it is stored, its rows `stride` floats apart; of a transposed one, the
// transpose.
struct Factor {
  const float* data;
  int64_t stride;
  bool transposed = false;
};
// Where a product goes: C = alpha A B + keep C.
struct Sum {
  float* data;
  int64_t stride;
  float keep = 0;
};

// C [rows, columns] = alpha A [rows, inner] B [inner, columns] + keep C. Does nothing if nothing is
// to be added or there is no C. Runs in the calling thread.
void sgemm(const GemmShape& shape, const Factor& a, const Factor& b, const Sum& c, float alpha = 1);

// The same with alpha 1 and A as it is, over tiles of fixed shape, on so many threads.
void matmul(const GemmShape& shape, const Factor& a, const Factor& b, const Sum& c,
            Threads threads = {});

// A matrix [rows, columns] that enters sums of products over its rows.
class Operand {
 public:
  enum class Side { left, both };  // what it may be in add_products; moments need both
  // threads: what the values are packed on, and the sums over them are made on.
  explicit Operand(Products products, Side side = Side::both, Threads threads = {})
      : products_(products), side_(side), threads_(threads) {}
  // Looks at the values; bf16 makes a copy.
  Operand(const float* values, int64_t rows, int64_t columns, Products products,
          Threads threads = {});
  // Other values. The memory of a copy is used again.
  void set(const float* values, int64_t rows, int64_t columns);
  int64_t columns() const { return columns_; }
  Threads threads() const { return threads_; }
  // The values, or panels of their columns with the rows as the inner dimension.
  const float* wide() const { return wide_; }
  const Panels* left() const { return products_ == Products::bf16 ? &left_ : nullptr; }
  const Panels* right() const { return products_ == Products::bf16 ? &right_ : nullptr; }

 private:
  Products products_;
  Side side_;
  Threads threads_;
  int64_t columns_ = 0;
  const float* wide_ = nullptr;
  Panels left_, right_;
  AlignedBuffer left_memory_, right_memory_;
};

// H [n, n] += X^T X for X [rows, n], on the operand's threads: what is on and above the diagonal.
// Below it H holds anything until mirror_moments() has copied the upper triangle.
void add_moments(const Operand& x, int64_t rows, float* h);
void mirror_moments(float* h, int64_t n, Threads threads = {});

// C [m, n] += A^T B for A [rows, m] and B [rows, n], on the threads of B.
void add_products(const Operand& a, const Operand& b, int64_t rows, float* c);

}  // namespace qwb
