// The plain operations of training: f64 on values of the host.
#include "lib/exec/training.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/exec/counter_bits.h"
#include "lib/exec/dynamic_map.h"
#include "lib/exec/reference/gradients.h"
#include "lib/exec/reference/reference.h"

namespace qwb {
namespace {

using plain::Doubles;
using plain::Turned;

Doubles fetch(const Executor& executor, In x) {
  Doubles values(x.rows, x.columns);
  const std::vector<float> on_host = executor.download(x);
  std::copy(on_host.begin(), on_host.end(), values.values.begin());
  return values;
}

// An operand that may be empty.
Doubles fetch_if(const Executor& executor, In x) {
  return x.empty() ? Doubles() : fetch(executor, x);
}

void store(const Executor& executor, const std::vector<float>& values, Out y) {
  executor.copy(In(values.data(), y.rows, y.columns), y);
}

// y = values, or y += values.
void put(const Executor& executor, const Doubles& values, Out y,
         Accumulate accumulate = Accumulate::no) {
  std::vector<float> rounded(values.values.size());
  if (accumulate == Accumulate::yes) rounded = executor.download(y);
  for (size_t i = 0; i < rounded.size(); ++i) {
    const double before = accumulate == Accumulate::yes ? static_cast<double>(rounded[i]) : 0.0;
    rounded[i] = static_cast<float>(before + values.values[i]);
  }
  store(executor, rounded, y);
}

void put(const Executor& executor, const std::vector<double>& values, Out y) {
  Doubles row(1, std::ssize(values));
  row.values = values;
  put(executor, row, y);
}

void scale_by(Doubles& x, float factor) {
  for (double& value : x.values) value *= static_cast<double>(factor);
}

// [out, in], whatever the stored order.
Doubles weight_values(const Weight& weight) {
  Doubles values(weight.out, weight.in);
  const std::vector<float> stored = reference_dequantize(weight);
  const bool straight = weight.orientation == Orientation::out_in;
  for (int64_t o = 0; o < weight.out; ++o) {
    for (int64_t i = 0; i < weight.in; ++i)
      values(o, i) = static_cast<double>(stored[straight ? o * weight.in + i : i * weight.out + o]);
  }
  return values;
}

}  // namespace

void TrainingOps::linear_back(In dy, const Prepared& weight, Out dx, Accumulate accumulate) const {
  put(executor_, plain::product(fetch(executor_, dy), weight_values(weight.stored())), dx,
      accumulate);
}

void TrainingOps::multiply_transposed(In x, In m, float factor, Out y,
                                      Accumulate accumulate) const {
  Doubles made = plain::product(fetch(executor_, x), fetch(executor_, m), Turned::right);
  scale_by(made, factor);
  put(executor_, made, y, accumulate);
}

void TrainingOps::multiply(In x, In m, float factor, Out y, Accumulate accumulate) const {
  Doubles made = plain::product(fetch(executor_, x), fetch(executor_, m));
  scale_by(made, factor);
  put(executor_, made, y, accumulate);
}

void TrainingOps::add_outer(In a, In b, float factor, Out m) const {
  Doubles made = plain::product(fetch(executor_, a), fetch(executor_, b), Turned::left);
  scale_by(made, factor);
  put(executor_, made, m, Accumulate::yes);
}

void TrainingOps::rms_norm_back(In x, In gain, double eps, In dy, Out dx, Accumulate accumulate,
                                Out dgain) const {
  const Doubles gains = fetch(executor_, gain);
  std::vector<double> by_gain = fetch_if(executor_, dgain).values;
  const Doubles made =
      plain::rms_norm_back(fetch(executor_, x), gains.values, eps, fetch(executor_, dy),
                           dgain.empty() ? nullptr : &by_gain);
  if (!dgain.empty()) put(executor_, by_gain, dgain);
  put(executor_, made, dx, accumulate);
}

void TrainingOps::layer_norm_back(In x, In gain, double eps, In dy, Out dx,
                                  Accumulate accumulate) const {
  put(executor_,
      plain::layer_norm_back(fetch(executor_, x), fetch(executor_, gain).values, eps,
                             fetch(executor_, dy)),
      dx, accumulate);
}

void TrainingOps::layer_norm_gains_back(In x, double eps, In dy, Out dgain, Out dbias) const {
  std::vector<double> by_gain = fetch(executor_, dgain).values;
  std::vector<double> by_bias = fetch(executor_, dbias).values;
  plain::layer_norm_gains_back(fetch(executor_, x), eps, fetch(executor_, dy), by_gain, by_bias);
  put(executor_, by_gain, dgain);
  put(executor_, by_bias, dbias);
}

void TrainingOps::attention(In queries, In keys, In values, const AttentionShape& shape, Out y,
                            Out sums) const {
  const plain::Attention made = plain::attention(fetch(executor_, queries), fetch(executor_, keys),
                                                 fetch(executor_, values), shape);
  put(executor_, made.y, y);
  put(executor_, made.sums, sums);
}

void TrainingOps::attention_back(const Attended& kept, const AttentionShape& shape, In dy, Out dq,
                                 Out dk, Out dv) const {
  const plain::AttentionBack back = plain::attention_back(
      fetch(executor_, kept.queries), fetch(executor_, kept.keys), fetch(executor_, kept.values),
      {fetch(executor_, kept.y), fetch(executor_, kept.sums)}, shape, fetch(executor_, dy));
  put(executor_, back.queries, dq);
  put(executor_, back.keys, dk);
  put(executor_, back.values, dv);
}

void TrainingOps::activate_back(Activation activation, In gate, In up, In dy, Out dgate,
                                Out dup) const {
  const plain::GatedBack back = plain::gated_back(activation, fetch(executor_, gate),
                                                  fetch_if(executor_, up), fetch(executor_, dy));
  put(executor_, back.gate, dgate);
  if (!up.empty()) put(executor_, back.up, dup);
}

void TrainingOps::losses_back(In x, const Prepared& weight, std::span<const int32_t> targets,
                              std::span<const float> factors, const LogitShape& shape,
                              std::span<double> losses, Out dx) const {
  const Doubles values = weight_values(weight.stored());
  Doubles logits = plain::product(fetch(executor_, x), values, Turned::right);
  for (size_t r = 0; r < targets.size(); ++r) {
    const std::span<double> row = std::span(logits.values).subspan(r * values.rows, values.rows);
    losses[r] = plain::cross_entropy(row, targets[r], shape);
    for (double& value : row) value *= static_cast<double>(factors[r]);
  }
  put(executor_, plain::product(logits, values), dx);
}

void TrainingOps::drop_out(In x, std::span<const uint64_t> keys, double probability, Out y) const {
  std::vector<float> values = executor_.download(x);
  const auto bound = static_cast<float>(probability);
  const auto factor = static_cast<float>(1 / (1 - probability));
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.columns; ++c) {
      float& value = values[static_cast<size_t>(r * x.columns + c)];
      const auto column = static_cast<uint64_t>(c);
      value = counter_uniform(keys[static_cast<size_t>(r)], column) < bound ? 0 : value * factor;
    }
  }
  store(executor_, values, y);
}

namespace {

// One value's step; the moments change too.
double stepped(double x, double gradient, double& first, double& second, const AdamW& s) {
  const double g = s.gradient_scale * gradient, step = static_cast<double>(s.step);
  first = s.beta1 * first + (1 - s.beta1) * g;
  second = s.beta2 * second + (1 - s.beta2) * g * g;
  const double m = first / (1 - std::pow(s.beta1, step));
  const double v = second / (1 - std::pow(s.beta2, step));
  return x * (1 - s.rate * s.decay) - s.rate * m / (std::sqrt(v) + s.eps);
}

// Moments in 8 bits, on the host.
class HostMoments {
 public:
  HostMoments(const Executor& executor, Out codes, Out scales, bool with_signs)
      : executor_(executor),
        codes_place_(codes),
        scales_place_(scales),
        codes_(executor.download(codes)),
        scales_(executor.download(scales)),
        map_(dynamic_map(with_signs)) {}
  double at(size_t i) const {
    return static_cast<double>(map_[bytes()[i]] * scales_[i / kMomentBlock]);
  }
  // Values of a block that begins at `first`.
  void set(size_t first, const std::vector<double>& values) {
    float largest = 0;
    for (const double value : values)
      largest = std::max(largest, std::abs(static_cast<float>(value)));
    scales_[first / kMomentBlock] = largest;
    for (size_t i = 0; i < values.size(); ++i) {
      bytes()[first + i] =
          nearest_code(map_, largest > 0 ? static_cast<float>(values[i]) / largest : 0.0f);
    }
  }
  void keep() const {
    store(executor_, codes_, codes_place_);
    store(executor_, scales_, scales_place_);
  }

 private:
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(codes_.data()); }
  const uint8_t* bytes() const { return reinterpret_cast<const uint8_t*>(codes_.data()); }

  const Executor& executor_;
  Out codes_place_, scales_place_;
  std::vector<float> codes_, scales_;
  const DynamicMap& map_;
};

}  // namespace

void TrainingOps::adamw(Out values, In gradient, Out first, Out second, const AdamW& step) const {
  Doubles x = fetch(executor_, values), m = fetch(executor_, first), v = fetch(executor_, second);
  const Doubles g = fetch(executor_, gradient);
  for (size_t i = 0; i < x.values.size(); ++i)
    x.values[i] = stepped(x.values[i], g.values[i], m.values[i], v.values[i], step);
  put(executor_, x, values);
  put(executor_, m, first);
  put(executor_, v, second);
}

void TrainingOps::adamw(Out values, In gradient, const CodedMoments& moments,
                        const AdamW& step) const {
  Doubles x = fetch(executor_, values);
  const Doubles g = fetch(executor_, gradient);
  HostMoments firsts(executor_, moments.first, moments.first_scales, true);
  HostMoments seconds(executor_, moments.second, moments.second_scales, false);
  for (size_t begin = 0; begin < x.values.size(); begin += kMomentBlock) {
    const size_t end = std::min(x.values.size(), begin + kMomentBlock);
    std::vector<double> m, v;
    for (size_t i = begin; i < end; ++i) {
      m.push_back(firsts.at(i));
      v.push_back(seconds.at(i));
      x.values[i] = stepped(x.values[i], g.values[i], m.back(), v.back(), step);
    }
    firsts.set(begin, m);
    seconds.set(begin, v);
  }
  firsts.keep();
  seconds.keep();
  put(executor_, x, values);
}

double TrainingOps::sum_of_squares(In x) const {
  double sum = 0;
  for (const float value : executor_.download(x))
    sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

}  // namespace qwb
