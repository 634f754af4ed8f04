// The plain executor: one loop per operation, f32 values, f64 sums, one thread. Slow on purpose;
// the fast paths are tested against it.
#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/base/error.h"
#include "lib/exec/cpu/calibration.h"
#include "lib/exec/executor.h"
#include "lib/exec/reference/activation.h"
#include "lib/exec/reference/reference.h"

namespace qwb {
namespace {

double capped(double x, float cap) {
  return cap == 0 ? x : static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap));
}

// The value of an operand, whose rows may be apart.
double at(In x, int64_t row, int64_t column) {
  return static_cast<double>(x.data[row * x.stride + column]);
}
float& at(Out x, int64_t row, int64_t column) {
  return x.data[row * x.stride + column];
}

// x = function(x, row, column)
template <class Function>
void each(Out x, const Function& function) {
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.columns; ++c)
      at(x, r, c) = static_cast<float>(function(at(In(x), r, c), r, c));
  }
}

// How a row of logits looks as a distribution.
struct PlainRow {
  double log_sum = 0;
  int64_t top = 0;
  PlainRow(In x, int64_t row) {
    for (int64_t c = 1; c < x.columns; ++c) top = at(x, row, c) > at(x, row, top) ? c : top;
    const double maximum = at(x, row, top);
    for (int64_t c = 0; c < x.columns; ++c) log_sum += std::exp(at(x, row, c) - maximum);
    log_sum = maximum + std::log(log_sum);
  }
};

class Reference final : public Executor {
 public:
  Reference() : Executor(Threads(1)) {}
  std::string identity() const override { return "reference"; }

  void copy(In from, Out to) const override {
    each(to, [&](double, int64_t r, int64_t c) { return at(from, r, c); });
  }

  Prepared prepare(const Weight& weight, Reuse) const override { return Prepared(weight); }

  void linear(const Rows& rows, const Affine& module, Out y, Accumulate accumulate) const override {
    const In x = rows.values;
    const Weight& weight = module.weight.stored();
    const std::vector<float> values = reference_dequantize(weight);
    each(y, [&](double before, int64_t t, int64_t o) {
      double sum = module.bias.empty() ? 0.0 : at(module.bias, 0, o);
      for (int64_t i = 0; i < weight.in; ++i) {
        const int64_t place =
            weight.orientation == Orientation::out_in ? o * weight.in + i : i * weight.out + o;
        sum += at(x, t, i) * static_cast<double>(values[place]);
      }
      return accumulate == Accumulate::yes ? before + sum : sum;
    });
  }

  void look_up(const Prepared& weight, std::span<const int32_t> ids, Out y) const override {
    std::vector<double> row(static_cast<size_t>(y.columns));
    for (int64_t r = 0; r < y.rows; ++r) {
      weight.stored().encoding->decode_row(weight.stored(), ids[r], row.data());
      for (int64_t c = 0; c < y.columns; ++c) at(y, r, c) = static_cast<float>(row[c]);
    }
  }
  void gather(In x, std::span<const int64_t> rows, Out y) const override {
    each(y, [&](double, int64_t r, int64_t c) { return at(x, rows[r], c); });
  }
  void scatter_add(In x, std::span<const int64_t> rows, std::span<const float> factors,
                   Out y) const override {
    for (int64_t r = 0; r < x.rows; ++r) {
      const auto i = static_cast<size_t>(r);
      for (int64_t c = 0; c < x.columns; ++c)
        at(y, rows[i], c) += static_cast<float>(static_cast<double>(factors[i]) * at(x, r, c));
    }
  }

  void rms_norm(In x, In gain, double eps, Out y) const override {
    for (int64_t r = 0; r < x.rows; ++r) {
      double square = 0;
      for (int64_t c = 0; c < x.columns; ++c) square += at(x, r, c) * at(x, r, c);
      const double factor = 1 / std::sqrt(square / static_cast<double>(x.columns) + eps);
      for (int64_t c = 0; c < x.columns; ++c)
        at(y, r, c) = static_cast<float>(at(x, r, c) * factor * at(gain, 0, c));
    }
  }
  void layer_norm(In x, In gain, In bias, double eps, Out y) const override {
    const auto n = static_cast<double>(x.columns);
    for (int64_t r = 0; r < x.rows; ++r) {
      double mean = 0, variance = 0;
      for (int64_t c = 0; c < x.columns; ++c) mean += at(x, r, c) / n;
      for (int64_t c = 0; c < x.columns; ++c)
        variance += (at(x, r, c) - mean) * (at(x, r, c) - mean);
      const double factor = 1 / std::sqrt(variance / n + eps);
      for (int64_t c = 0; c < x.columns; ++c) {
        at(y, r, c) =
            static_cast<float>((at(x, r, c) - mean) * factor * at(gain, 0, c) + at(bias, 0, c));
      }
    }
  }

  void rotate(Out x, int64_t head_dim, In cosine, In sine, RotaryPairs pairs) const override {
    const int64_t turned = cosine.columns;
    const bool halves = pairs == RotaryPairs::halves;
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t begin = 0; begin < x.columns; begin += head_dim) {
        for (int64_t k = 0; k < turned; ++k) {
          const int64_t first = begin + (halves ? k : 2 * k);
          const int64_t second = begin + (halves ? k + turned : 2 * k + 1);
          const double a = at(In(x), t, first), b = at(In(x), t, second), c = at(cosine, t, k),
                       s = at(sine, t, k);
          at(x, t, first) = static_cast<float>(a * c - b * s);
          at(x, t, second) = static_cast<float>(b * c + a * s);
        }
      }
    }
  }

  void attention(In queries, In keys, In values, const AttentionShape& s, Out y) const override {
    for (int64_t t = 0; t < queries.rows; ++t) {
      for (int64_t h = 0; h < s.heads; ++h) attend_plainly(queries, keys, values, s, t, h, y);
    }
  }

  void activate(Activation activation, Out x) const override {
    each(x, [&](double value, int64_t, int64_t) { return plain_act(activation, value); });
  }
  void activate(Activation activation, Out x, In up) const override {
    each(x, [&](double value, int64_t r, int64_t c) {
      return plain_act(activation, value) * at(up, r, c);
    });
  }
  void add(Out x, In y) const override {
    each(x, [&](double value, int64_t r, int64_t c) { return value + at(y, r, c); });
  }
  void fill(Out x, float value) const override {
    each(x, [&](double, int64_t, int64_t) { return static_cast<double>(value); });
  }
  void scale(Out x, float factor) const override {
    each(x, [&](double value, int64_t, int64_t) { return value * static_cast<double>(factor); });
  }
  void losses(In x, const Prepared& weight, std::span<const int32_t> targets,
              const LogitShape& shape, std::span<double> losses) const override {
    const Matrix logits = allocate(1, weight.stored().out);
    for (int64_t r = 0; r < x.rows; ++r) {
      linear(x.row_range(r, 1), {weight}, logits, Accumulate::no);
      if (shape.scale != 1) scale(logits, shape.scale);
      if (shape.cap != 0) soft_cap(logits, shape.cap);
      const auto i = static_cast<size_t>(r);
      losses[i] = PlainRow(logits, 0).log_sum - at(In(logits), 0, targets[i]);
    }
  }
  void divergence(In base, In other, std::span<const int32_t> targets,
                  std::span<RowDivergence> differences) const override {
    for (int64_t r = 0; r < base.rows; ++r) {
      const auto i = static_cast<size_t>(r);
      RowDivergence& d = differences[i] = {};
      d.finite = all_finite(base.row_range(r, 1)) && all_finite(other.row_range(r, 1));
      if (!d.finite) continue;
      const PlainRow a(base, r), b(other, r);
      for (int64_t c = 0; c < base.columns; ++c) {
        const double difference = at(base, r, c) - a.log_sum - (at(other, r, c) - b.log_sum);
        d.kl += std::exp(at(base, r, c) - a.log_sum) * difference;
      }
      d.base_loss = a.log_sum - at(base, r, targets[i]);
      d.other_loss = b.log_sum - at(other, r, targets[i]);
      d.base_top = a.top;
      d.other_top = b.top;
    }
  }

  bool all_finite(In x) const override {
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t c = 0; c < x.columns; ++c) {
        if (!std::isfinite(at(x, r, c))) return false;
      }
    }
    return true;
  }
  // The processor's: the tests of these hold plain definitions of their own.
  const CalibrationOps& calibration() const override { return *calibration_; }

 private:
  std::unique_ptr<const CalibrationOps> calibration_ = cpu_calibration(Products::f32, Threads(1));

  // One head of one query.
  static void attend_plainly(In queries, In keys, In values, const AttentionShape& s, int64_t t,
                             int64_t head, Out y) {
    const int64_t position = keys.rows - queries.rows + t;
    const int64_t begin = s.window > 0 ? std::max<int64_t>(0, position - s.window + 1) : 0;
    const int64_t offset = head / (s.heads / s.kv_heads) * s.head_dim, own = head * s.head_dim;
    std::vector<double> scores;
    for (int64_t j = begin; j <= position; ++j) {
      double sum = 0;
      for (int64_t d = 0; d < s.head_dim; ++d)
        sum += at(queries, t, own + d) * at(keys, j, offset + d);
      const double slope = s.slopes.empty() ? 0 : s.slopes[static_cast<size_t>(head)];
      scores.push_back(capped(sum * static_cast<double>(s.scale), s.soft_cap) +
                       slope * static_cast<double>(j - position));
    }
    const double maximum = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& score : scores) total += score = std::exp(score - maximum);
    for (int64_t d = 0; d < s.head_dim; ++d) {
      double sum = 0;
      for (size_t j = 0; j < scores.size(); ++j)
        sum += scores[j] * at(values, begin + static_cast<int64_t>(j), offset + d);
      at(y, t, own + d) = static_cast<float>(sum / total);
    }
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

std::unique_ptr<Executor> make_reference_executor() {
  return std::make_unique<Reference>();
}

}  // namespace qwb
