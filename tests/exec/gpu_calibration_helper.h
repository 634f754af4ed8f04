// What the tests of calibration on the GPU share.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "lib/base/rng.h"
#include "lib/exec/calibration.h"
#include "tests/exec/executor_helper.h"
#include "tests/exec/gpu_helper.h"

namespace qwb {

inline std::vector<float> gpu_values(int64_t count, uint64_t seed, float size = 1) {
  Rng rng(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(size * (2 * static_cast<float>(rng.uniform()) - 1));
  return values;
}

class GpuCalibration : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (gpu() != nullptr && rounding_ == nullptr)
      rounding_ = make_cuda_calibration_executor(0, Threads());
  }
  static const Executor& rounding() { return *rounding_; }
  static const CalibrationOps& there() { return gpu()->calibration(); }
  static const CalibrationOps& here() { return fast_executor().calibration(); }
  static Matrix upload(const std::vector<float>& values, int64_t columns) {
    Matrix matrix = gpu()->allocate(std::ssize(values) / columns, columns);
    gpu()->copy(rows_of(values, columns), matrix);
    return matrix;
  }

 private:
  static inline std::shared_ptr<const Executor> rounding_;
};

// H of inputs whose channels differ in size and hang together, one of them dead.
inline std::vector<float> moments_of(int64_t n, uint64_t seed) {
  const int64_t tokens = 2 * n + 3;
  auto x = gpu_values(tokens * n, seed);
  std::vector<float> h(n * n);
  std::vector<double> row(n);
  for (int64_t t = 0; t < tokens; ++t) {
    float* values = x.data() + t * n;
    for (int64_t i = 1; i < n; ++i) values[i] = (values[i] + 0.6f * values[i - 1]);
    for (int64_t i = 0; i < n; ++i)
      values[i] *= i == 3 ? 0 : 0.5f + 3 * static_cast<float>(i * 7 % 11 == 0);
  }
  for (int64_t i = 0; i < n; ++i) {
    std::fill(row.begin(), row.end(), 0);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t j = 0; j < n; ++j) row[j] += static_cast<double>(x[t * n + i]) * x[t * n + j];
    }
    std::copy(row.begin(), row.end(), h.begin() + i * n);
  }
  return h;
}

// A factor in the memory of an executor.
struct FactorOf {
  FactorOf(const Executor& executor, int64_t n)
      : upper(executor.allocate(n, n)),
        inverses(executor.allocate(ceil_div(n, kFactorBlock) * kFactorBlock, kFactorBlock)),
        diagonal(executor.allocate(inverses.rows(), kFactorBlock)) {}
  UpperFactor view() const { return {upper, inverses, diagonal}; }
  Matrix upper, inverses, diagonal;
};

}  // namespace qwb
