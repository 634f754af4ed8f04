#include "tests/model/parts_helper.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace qwb {

void RandomWeights::add(const std::string& name, const Shape& shape) {
  Tensor tensor(DType::f32, shape);
  for (int64_t i = 0; i < tensor.count(); ++i)
    tensor.data<float>()[i] = static_cast<float>(2 * rng_.uniform() - 1);
  tensors_.insert_or_assign(name, std::move(tensor));
}

double RandomWeights::at(const std::string& name, int64_t index) const {
  return static_cast<double>(tensors_.at(name).data<float>()[index]);
}

LinearSpec RandomWeights::linear(const std::string& module, int64_t out, int64_t in, bool bias) {
  add(module + ".weight", {out, in});
  if (bias) add(module + ".bias", {out});
  return {module, out, in, Orientation::out_in, bias};
}

NormSpec RandomWeights::norm(const std::string& module, int64_t size, bool centred, float offset) {
  add(module + ".weight", {size});
  if (centred) add(module + ".bias", {size});
  return {module, centred, offset};
}

Row RandomWeights::product(const LinearSpec& linear, const Row& x) const {
  Row y;
  for (int64_t o = 0; o < linear.out; ++o) {
    double sum = linear.bias ? at(linear.module + ".bias", o) : 0;
    for (int64_t i = 0; i < linear.in; ++i)
      sum += at(linear.module + ".weight", o * linear.in + i) * x[static_cast<size_t>(i)];
    y.push_back(sum);
  }
  return y;
}

Row RandomWeights::normed(const NormSpec& norm, const Row& x, double eps) const {
  const auto size = static_cast<double>(x.size());
  double mean = 0, squares = 0;
  for (const double value : x) mean += norm.centred ? value / size : 0;
  for (const double value : x) squares += (value - mean) * (value - mean) / size;
  Row y;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    const double gain = static_cast<double>(norm.offset) + at(norm.module + ".weight", index);
    y.push_back((x[i] - mean) / std::sqrt(squares + eps) * gain +
                (norm.centred ? at(norm.module + ".bias", index) : 0));
  }
  return y;
}

std::optional<TensorView> RandomWeights::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? std::nullopt : std::optional(it->second.view());
}

std::vector<std::string> RandomWeights::names() const {
  std::vector<std::string> all;
  for (const auto& [name, tensor] : tensors_) all.push_back(name);
  return all;
}

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu_tanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf:
      return x / 2 * (1 + std::erf(x / std::numbers::sqrt2));
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return std::max(x, 0.0);
  }
  return 0;
}

std::vector<float> random_floats(uint64_t seed, int64_t count) {
  Rng rng(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(2 * rng.uniform() - 1));
  return values;
}

Row row_of(const std::vector<float>& values, int64_t row, int64_t columns) {
  const auto begin = values.begin() + row * columns;
  return {begin, begin + columns};
}

void expect_row_near(const std::vector<float>& values, int64_t row, const Row& expected) {
  const Row found = row_of(values, row, std::ssize(expected));
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], 1e-5 * std::max(1.0, std::abs(expected[i])))
        << "row " << row << ", column " << i;
}

std::vector<std::unique_ptr<Executor>> both_executors() {
  std::vector<std::unique_ptr<Executor>> both;
  for (const ExecutorKind kind : {ExecutorKind::reference, ExecutorKind::fast})
    both.push_back(make_executor(kind, Threads(2)));
  return both;
}

}  // namespace qwb
