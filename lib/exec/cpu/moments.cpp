// Sums over activations, and what is done to them as a whole.
#include "lib/base/parallel.h"
#include "lib/exec/cpu/calibration.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"

namespace qwb {
namespace {

class CpuMomentSums final : public MomentSums {
 public:
  CpuMomentSums(Products products, Threads threads)
      : x_(products, Operand::Side::both, threads), aims_(products, Operand::Side::left, threads) {}

  void add(In x, Out h, In aims, Out cross) override {
    x_.set(dense(x), x.rows, x.columns);
    add_moments(x_, x.rows, dense(h));
    if (aims.empty()) return;
    aims_.set(dense(aims), aims.rows, aims.columns);
    add_products(aims_, x_, x.rows, dense(cross));
  }

 private:
  Operand x_, aims_;
};

}  // namespace

std::unique_ptr<MomentSums> cpu_moment_sums(Products products, Threads threads) {
  return std::make_unique<CpuMomentSums>(products, threads);
}

void subtract_means(float* m, std::span<const double> left, std::span<const double> right,
                    int64_t tokens, Threads threads) {
  const int64_t columns = std::ssize(right);
  parallel_for(threads, std::ssize(left), [&](int64_t i) {
    const double factor = left[i] / static_cast<double>(tokens);
    float* row = m + i * columns;
    for (int64_t j = 0; j < columns; ++j) row[j] = static_cast<float>(row[j] - factor * right[j]);
  });
}

}  // namespace qwb
