// Repair adapters: what they take away of the output error is what they say, no other matrix of
// their rank takes away more, and at full rank nothing is left.
#include <gtest/gtest.h>

#include <cmath>

#include "lib/adapt/repair.h"
#include "lib/adapt/svd.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"

namespace qwb {
namespace {

constexpr int64_t kOut = 20, kIn = 24, kTokens = 200;

// A module with inputs that are far from independent, and a coarse rounding of it.
struct RepairCase {
  std::unique_ptr<Executor> executor = make_executor(ExecutorKind::fast, Threads(2));
  std::vector<float> weight, rounded, h;
  Matrix hessian, drift;
  Moments moments;
  ModuleTask task;
  ModuleResult result;

  RepairCase() : weight(kOut * kIn), h(kIn * kIn) {
    Rng rng(9);
    for (float& w : weight) w = static_cast<float>(rng.uniform() - 0.5);
    for (const float w : weight) rounded.push_back(std::round(w * 4) / 4);
    for (int64_t t = 0; t < kTokens; ++t) {
      std::vector<double> x(kIn);
      const double common = rng.uniform() - 0.5;
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = (common * static_cast<double>(i % 5) + rng.uniform() - 0.5) *
               (1 + static_cast<double>(i) / 4);
      for (int64_t i = 0; i < kIn; ++i) {
        for (int64_t j = 0; j < kIn; ++j) h[i * kIn + j] += static_cast<float>(x[i] * x[j]);
      }
    }
    hessian = executor->allocate(kIn, kIn);
    executor->copy(In(h.data(), kIn, kIn), hessian);
    moments.executor = executor.get();
    moments.tokens = kTokens;
    moments.hessian = hessian;
    task.info = {"module", kOut, kIn};
    const auto bytes = std::as_bytes(std::span(weight));
    task.weight = {DType::f32, {kOut, kIn}, {bytes.data(), bytes.size()}};
    task.moments = &moments;
    result.tensor = QuantizedTensor(dense_layout({kOut, kIn}, DType::f32));
    std::ranges::copy(rounded, result.tensor.parts.at("weight").data<float>());
  }

  // tr(D H D^T), H with the damping that repair_module adds.
  double output_energy(const std::vector<double>& d) const {
    double mean = 0;
    for (int64_t i = 0; i < kIn; ++i) mean += h[i * kIn + i] / kIn;
    double sum = 0;
    for (int64_t o = 0; o < kOut; ++o) {
      for (int64_t i = 0; i < kIn; ++i) {
        for (int64_t j = 0; j < kIn; ++j)
          sum += d[o * kIn + i] * (h[i * kIn + j] + (i == j ? 0.01 * mean : 0)) * d[o * kIn + j];
      }
    }
    return sum;
  }
  std::vector<double> error_beside(const AdapterModule& m) const {
    std::vector<double> d(kOut * kIn);
    for (int64_t o = 0; o < kOut; ++o) {
      for (int64_t i = 0; i < kIn; ++i) {
        d[o * kIn + i] = static_cast<double>(weight[o * kIn + i]) - rounded[o * kIn + i];
        for (int64_t k = 0; k < m.rank; ++k)
          d[o * kIn + i] -= static_cast<double>(m.b[o * m.rank + k]) * m.a[k * kIn + i];
      }
    }
    return d;
  }
  double weight_energy() const { return output_energy({weight.begin(), weight.end()}); }
};

TEST(Repair, TakesAwayWhatItSays) {
  const RepairCase c;
  double before = 1;
  for (const int64_t rank : {1, 4, 12}) {
    const Repaired repaired = repair_module(c.task, c.result, rank);
    EXPECT_EQ(repaired.module.rank, rank);
    const double left = c.output_energy(c.error_beside(repaired.module)) / c.weight_energy();
    EXPECT_NEAR(repaired.error_after, left, 1e-5 * repaired.error_before);
    EXPECT_NEAR(repaired.error_before,
                c.output_energy(c.error_beside({.module = "none"})) / c.weight_energy(),
                1e-5 * repaired.error_before);
    EXPECT_LT(left, before);
    before = left;
    // Singular values of the weights' error alone, without a look at the inputs, take away less.
    ColumnMatrix error(kOut, kIn), unit(kIn, kIn);
    for (int64_t i = 0; i < kIn; ++i) {
      unit.column(i)[i] = 1;
      for (int64_t o = 0; o < kOut; ++o)
        error.column(i)[o] = static_cast<double>(c.weight[o * kIn + i]) - c.rounded[o * kIn + i];
    }
    const Svd plain = svd_of_product(error, unit);
    std::vector<double> rest = c.error_beside({.module = "none"});
    for (int64_t k = 0; k < rank; ++k) {
      for (int64_t o = 0; o < kOut; ++o) {
        for (int64_t i = 0; i < kIn; ++i)
          rest[o * kIn + i] -= plain.s[k] * plain.u.column(k)[o] * plain.v.column(k)[i];
      }
    }
    EXPECT_GT(c.output_energy(rest) / c.weight_energy(), 1.05 * left);
  }
  const Repaired whole = repair_module(c.task, c.result, kOut);
  EXPECT_LE(whole.error_after, 1e-9);
  EXPECT_LE(c.output_energy(c.error_beside(whole.module)) / c.weight_energy(), 1e-9);
}

// Codes that follow the original model aim at W + W D H^-1: so does the repair.
TEST(Repair, AimsAtWhatTheCodesDo) {
  RepairCase c;
  Rng rng(4);
  std::vector<float> d(kIn * kIn);
  for (float& value : d) value = static_cast<float>(20 * (rng.uniform() - 0.5));
  c.drift = c.executor->allocate(kIn, kIn);
  c.executor->copy(In(d.data(), kIn, kIn), c.drift);
  c.moments.drift = c.drift;
  const AdapterModule plain = repair_module(c.task, c.result, kOut).module;
  c.result.details = {{"correction", 0.5}};
  const AdapterModule aimed = repair_module(c.task, c.result, kOut).module;
  // (BA of the one - BA of the other) H = 0.5 W D, damping apart.
  double mean = 0;
  for (int64_t i = 0; i < kIn; ++i) mean += c.h[i * kIn + i] / kIn;
  const std::vector<double> a = c.error_beside(plain), b = c.error_beside(aimed);
  double difference = 0, all = 0;
  for (int64_t o = 0; o < kOut; ++o) {
    for (int64_t j = 0; j < kIn; ++j) {
      double moved = 0, wanted = 0;
      for (int64_t i = 0; i < kIn; ++i) {
        const double h = c.h[i * kIn + j] + (i == j ? 0.01 * mean : 0);
        moved += (a[o * kIn + i] - b[o * kIn + i]) * h;
        wanted += 0.5 * static_cast<double>(c.weight[o * kIn + i]) * d[i * kIn + j];
      }
      difference += (moved - wanted) * (moved - wanted), all += wanted * wanted;
    }
  }
  EXPECT_LE(std::sqrt(difference / all), 1e-4);
  c.result.bias_shift.resize(kOut);
  EXPECT_THROW(repair_module(c.task, c.result, 2), Error);
}

}  // namespace
}  // namespace qwb
