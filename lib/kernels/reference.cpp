// The plain backend: one loop per operation, f32 values, f64 sums, one thread. Slow on purpose; the
// fast paths are tested against it.
#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/base/error.h"
#include "lib/kernels/backend.h"
#include "lib/kernels/reference.h"

namespace qwb {
namespace {

double act(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu_tanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return std::max(x, 0.0);
  }
  return x;
}

double capped(double x, float cap) {
  return cap == 0 ? x : static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap));
}

class Reference final : public Backend {
 public:
  Reference() : Backend(Threads(1)) {}
  std::string name() const override { return "reference"; }

  void linear(const float* x, int64_t tokens, const Weight& weight, const float* bias, float* y,
              bool add) const override {
    const std::vector<float> values = reference_dequantize(weight);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t o = 0; o < weight.out; ++o) {
        double sum = bias != nullptr ? bias[o] : 0.0;
        for (int64_t i = 0; i < weight.in; ++i) {
          const int64_t at =
              weight.orientation == Orientation::out_in ? o * weight.in + i : i * weight.out + o;
          sum += static_cast<double>(x[t * weight.in + i]) *
                 static_cast<double>(values[static_cast<size_t>(at)]);
        }
        float& target = y[t * weight.out + o];
        target = static_cast<float>(add ? static_cast<double>(target) + sum : sum);
      }
    }
  }

  void gather_rows(const Weight& weight, std::span<const int32_t> ids, float* out) const override {
    std::vector<double> row(static_cast<size_t>(weight.columns()));
    for (const int32_t id : ids) {
      weight.encoding->decode_row(weight, id, row.data());
      for (const double value : row) *out++ = static_cast<float>(value);
    }
  }

  void rms_norm(const float* x, int64_t rows, int64_t n, const float* gain, double eps,
                float* y) const override {
    for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
      double square = 0;
      for (int64_t i = 0; i < n; ++i)
        square += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      const double factor = 1 / std::sqrt(square / static_cast<double>(n) + eps);
      for (int64_t i = 0; i < n; ++i)
        y[i] =
            static_cast<float>(static_cast<double>(x[i]) * factor * static_cast<double>(gain[i]));
    }
  }

  void layer_norm(const float* x, int64_t rows, int64_t n, const float* gain, const float* bias,
                  double eps, float* y) const override {
    for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
      double mean = 0, variance = 0;
      for (int64_t i = 0; i < n; ++i) mean += static_cast<double>(x[i]) / static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i)
        variance += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
      const double factor = 1 / std::sqrt(variance / static_cast<double>(n) + eps);
      for (int64_t i = 0; i < n; ++i) {
        y[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * factor *
                                      static_cast<double>(gain[i]) +
                                  static_cast<double>(bias[i]));
      }
    }
  }

  void rotate(float* x, int64_t tokens, int64_t heads, int64_t head_dim, int64_t stride,
              const float* cosine, const float* sine) const override {
    const int64_t half = head_dim / 2;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        float* head = x + t * stride + h * head_dim;
        for (int64_t k = 0; k < half; ++k) {
          const double a = head[k], b = head[k + half], c = cosine[t * half + k],
                       s = sine[t * half + k];
          head[k] = static_cast<float>(a * c - b * s);
          head[k + half] = static_cast<float>(b * c + a * s);
        }
      }
    }
  }

  void attention(const float* queries, const float* keys, const float* values,
                 const AttentionShape& s, float* out) const override {
    const int64_t row = s.kv_heads * s.head_dim;
    for (int64_t t = 0; t < s.tokens; ++t) {
      const int64_t position = s.past + t;
      const int64_t begin = s.window > 0 ? std::max<int64_t>(0, position - s.window + 1) : 0;
      for (int64_t h = 0; h < s.heads; ++h) {
        const int64_t offset = h / (s.heads / s.kv_heads) * s.head_dim;
        const float* query = queries + t * s.query_stride + h * s.head_dim;
        std::vector<double> scores;
        for (int64_t j = begin; j <= position; ++j) {
          double sum = 0;
          for (int64_t d = 0; d < s.head_dim; ++d)
            sum += static_cast<double>(query[d]) * static_cast<double>(keys[j * row + offset + d]);
          scores.push_back(capped(sum * static_cast<double>(s.scale), s.soft_cap));
        }
        const double maximum = *std::max_element(scores.begin(), scores.end());
        double total = 0;
        for (double& score : scores) total += score = std::exp(score - maximum);
        for (int64_t d = 0; d < s.head_dim; ++d) {
          double sum = 0;
          for (size_t j = 0; j < scores.size(); ++j) {
            sum += scores[j] * static_cast<double>(
                                   values[(begin + static_cast<int64_t>(j)) * row + offset + d]);
          }
          out[(t * s.heads + h) * s.head_dim + d] = static_cast<float>(sum / total);
        }
      }
    }
  }

  void activate(Activation activation, float* gate, const float* up, int64_t count) const override {
    for (int64_t i = 0; i < count; ++i) {
      const double value = act(activation, gate[i]);
      gate[i] = static_cast<float>(up != nullptr ? value * static_cast<double>(up[i]) : value);
    }
  }

  void add(float* x, const float* y, int64_t count) const override {
    for (int64_t i = 0; i < count; ++i) x[i] += y[i];
  }

  void soft_cap(float* x, int64_t count, float cap) const override {
    for (int64_t i = 0; i < count; ++i) x[i] = static_cast<float>(capped(x[i], cap));
  }

  void losses(const float* x, int64_t rows, const Weight& weight, std::span<const int32_t> targets,
              float cap, double* losses) const override {
    std::vector<float> logits(static_cast<size_t>(weight.out));
    for (int64_t r = 0; r < rows; ++r) {
      linear(x + r * weight.in, 1, weight, nullptr, logits.data(), false);
      if (cap != 0) soft_cap(logits.data(), weight.out, cap);
      const double maximum = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - maximum);
      losses[r] = maximum + std::log(sum) -
                  static_cast<double>(logits[static_cast<size_t>(targets[static_cast<size_t>(r)])]);
    }
  }

  bool all_finite(const float* x, int64_t count) const override {
    return std::all_of(x, x + count, [](float value) { return std::isfinite(value); });
  }
};

}  // namespace

std::vector<float> reference_dequantize(const Weight& weight) {
  std::vector<double> row(static_cast<size_t>(weight.columns()));
  std::vector<float> values;
  values.reserve(static_cast<size_t>(weight.count()));
  for (int64_t r = 0; r < weight.rows(); ++r) {
    weight.encoding->decode_row(weight, r, row.data());
    for (const double value : row) values.push_back(static_cast<float>(value));
  }
  return values;
}

std::unique_ptr<Backend> make_reference_backend() {
  return std::make_unique<Reference>();
}

}  // namespace qwb
