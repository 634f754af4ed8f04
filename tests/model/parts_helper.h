// Random weights for one part of a model, and the textbook's sums over them in f64. Parts that
// compute in f32 agree to 1e-5: sums of at most 64 products of numbers below 1.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lib/base/rng.h"
#include "lib/codec/source.h"
#include "lib/model/architecture.h"

namespace qwb {

using Row = std::vector<double>;

class RandomWeights : public TensorSource {
 public:
  explicit RandomWeights(uint64_t seed) : rng_(seed) {}

  // Adds "<module>.weight" [out, in] and, if asked for, "<module>.bias" [out].
  LinearSpec linear(const std::string& module, int64_t out, int64_t in, bool bias = false);
  // Adds "<module>.weight" [size], and "<module>.bias" [size] of a centred one.
  NormSpec norm(const std::string& module, int64_t size, bool centred = false, float offset = 0);
  float* values(const std::string& name) { return tensors_.at(name).data<float>(); }

  Row product(const LinearSpec& linear, const Row& x) const;
  Row normed(const NormSpec& norm, const Row& x, double eps) const;

  std::optional<TensorView> find(const std::string& name) const override;
  std::vector<std::string> names() const override;

 private:
  void add(const std::string& name, const Shape& shape);
  double at(const std::string& name, int64_t index) const;

  Rng rng_;
  std::map<std::string, Tensor> tensors_;
};

double activated(Activation activation, double x);
std::vector<float> random_floats(uint64_t seed, int64_t count);  // between -1 and 1
Row row_of(const std::vector<float>& values, int64_t row, int64_t columns);
void expect_row_near(const std::vector<float>& values, int64_t row, const Row& expected);
// The plain one, and the fast one.
std::vector<std::unique_ptr<Executor>> both_executors();

}  // namespace qwb
