// A linear module on the tape: frozen, with low-rank factors beside it that are trained, or
// without.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "lib/exec/training.h"
#include "lib/model/linear.h"

namespace qwb {

// y += scale * B (A drop(x)) beside a frozen module, and the gradients by A and B, which are added
// up.
struct TrainedFactors {
  std::string module;
  Matrix a, b;                    // [rank, in], [out, rank]
  Matrix a_gradient, b_gradient;  // of the same sizes
  float scale = 1;
  double dropout = 0;   // probability that a value of x is left out
  uint64_t number = 0;  // tells its dropout from that of other modules

  int64_t rank() const { return a.rows(); }
  int64_t values() const { return a.rows() * a.columns() + b.rows() * b.columns(); }
};

// Sequences on the tape: their rows one behind the other, positions from 0 on in each.
struct TapeRows {
  std::span<const int64_t> documents;  // rows of each
  // One for each row: what its dropout is a function of. Empty: nothing is left out.
  std::span<const uint64_t> keys = {};
};

class TapedLinear {
 public:
  TapedLinear(const LinearSpec& spec, const TensorSource& source, const Executor& executor)
      : base_(spec, source, executor) {}

  const LinearSpec& spec() const { return base_.spec; }
  // null: none. Must outlive its use.
  void set_factors(TrainedFactors* factors) { factors_ = factors; }
  bool adapted() const { return factors_ != nullptr; }

  // y [rows, out] of x [rows, in]. Returns A drop(x), for back(); empty without factors.
  Matrix forward(const Executor& executor, const TapeRows& rows, In x, Out y) const;
  // From the gradient dy by y: adds the gradients by the factors to theirs, and makes that by x, or
  // adds it to dx. inner: what forward() returned.
  void back(const Executor& executor, const TapeRows& rows, In x, In inner, In dy, Out dx,
            Accumulate accumulate) const;

 private:
  bool drops(const TapeRows& rows) const;
  // x as the factors see it.
  Matrix dropped(const Executor& executor, const TapeRows& rows, In x) const;

  Linear base_;
  TrainedFactors* factors_ = nullptr;
};

}  // namespace qwb
