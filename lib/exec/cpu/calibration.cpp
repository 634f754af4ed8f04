#include "lib/exec/cpu/calibration.h"

#include <algorithm>
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/exec/cpu/clip_rows.h"
#include "lib/exec/cpu/factor.h"
#include "lib/exec/cpu/gptq_solver.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/thread_scratch.h"

namespace qwb {
namespace {

constexpr int64_t kColumns = 64;  // whose sums a thread makes at a time

class CpuCalibration final : public CalibrationOps {
 public:
  CpuCalibration(Products products, Threads threads) : products_(products), threads_(threads) {}

  void to_halves(In x, Halves halves) const override {
    to_half_rows(dense(x), x.rows, x.columns, halves.values, halves.scales);
  }
  void from_halves(Halves halves, Out x) const override {
    from_half_rows(halves.values, halves.scales, x.rows, x.columns, dense(x));
  }

  void subtract(Out x, In y) const override {
    float* values = dense(x);
    const float* from = dense(y);
    parallel_ranges(threads_, x.count(), kElementGrain, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) values[k] -= from[k];
    });
  }
  void subtract_row(Out x, In row) const override {
    float* values = dense(x);
    const float* from = dense(row);
    parallel_for(threads_, x.rows, [&](int64_t r) {
      float* to = values + r * x.columns;
      for (int64_t c = 0; c < x.columns; ++c) to[c] -= from[c];
    });
  }
  void compact(std::span<const int64_t> rows, Out x) const override {
    float *values = dense(x), *to = values;
    for (const int64_t row : rows) {
      const float* from = values + row * x.columns;
      if (from != to) std::copy(from, from + x.columns, to);
      to += x.columns;
    }
  }

  std::unique_ptr<MomentSums> moment_sums() const override {
    return cpu_moment_sums(products_, threads_);
  }
  void mirror(Out h) const override { mirror_moments(dense(h), h.rows, threads_); }
  void add_columns(In x, Summands summands, std::span<double> sums) const override {
    const float* values = dense(x);
    parallel_ranges(threads_, x.columns, kColumns, [&](int64_t begin, int64_t end) {
      for (int64_t r = 0; r < x.rows; ++r) {
        const float* row = values + r * x.columns;
        for (int64_t c = begin; c < end; ++c) {
          sums[c] += summands == Summands::values ? row[c] : std::abs(row[c]);
        }
      }
    });
  }
  void take_out_means(Out m, std::span<const double> left, std::span<const double> right,
                      int64_t tokens) const override {
    subtract_means(dense(m), left, right, tokens, threads_);
  }
  std::vector<float> diagonal(In h) const override {
    std::vector<float> values;
    for (int64_t i = 0; i < h.rows; ++i) values.push_back(dense(h)[i * h.columns + i]);
    return values;
  }
  void clear_negative_diagonal(Out h) const override {
    for (int64_t i = 0; i < h.rows; ++i) {
      float& value = dense(h)[i * h.columns + i];
      value = std::max(value, 0.0f);
    }
  }
  void scale_moments(In h, std::span<const float> scales, Out scaled) const override {
    const float* from = dense(h);
    float* to = dense(scaled);
    parallel_for(threads_, h.rows, [&](int64_t i) {
      for (int64_t j = 0; j < h.columns; ++j) {
        const float both = scales[i] * scales[j];
        to[i * h.columns + j] = from[i * h.columns + j] / both;
      }
    });
  }
  std::vector<double> quadratic_forms(std::span<const float> x, In h) const override {
    return qwb::quadratic_forms(x.data(), std::ssize(x) / h.rows, dense(h), h.rows);
  }

  bool factorize(In h, const Damping& damping, const UpperFactor& factor) const override {
    return factorize_damped(dense(h), damping, HostFactor(factor), {threads_, damping.stop});
  }
  void gptq_rows(const GptqTask& task, std::span<const float> weight,
                 const GptqDone& done) const override {
    qwb::gptq_rows(task, weight, done, threads_);
  }
  void clip_rows(const ClipTask& task, std::span<const float> weight,
                 const ClipDone& done) const override {
    qwb::clip_rows(task, weight, done, threads_);
  }
  std::vector<double> rounded_errors(const ScaleTrial& trial) const override {
    return qwb::rounded_errors(trial);
  }
  std::vector<double> clipped_errors(const ScaleTrial& trial) const override {
    return qwb::clipped_errors(trial);
  }

 private:
  Products products_;
  Threads threads_;
};

}  // namespace

std::unique_ptr<const CalibrationOps> cpu_calibration(Products products, Threads threads) {
  return std::make_unique<CpuCalibration>(products, threads);
}

}  // namespace qwb
