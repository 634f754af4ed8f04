#include "lib/exec/reference/gradients.h"

#include <algorithm>
#include <cmath>

#include "lib/exec/reference/activation.h"

namespace qwb::plain {
namespace {

// Mean and inverse deviation of a row; of an RMSNorm the mean is 0.
struct RowScale {
  double mean = 0, inverse = 0;
};

RowScale row_scale(const Doubles& x, int64_t row, double eps, bool centred) {
  const auto n = static_cast<double>(x.columns);
  RowScale scale;
  for (int64_t c = 0; centred && c < x.columns; ++c) scale.mean += x(row, c) / n;
  double square = 0;
  for (int64_t c = 0; c < x.columns; ++c)
    square += (x(row, c) - scale.mean) * (x(row, c) - scale.mean);
  scale.inverse = 1 / std::sqrt(square / n + eps);
  return scale;
}

// With z = (x - mean) / deviation and g = dy * gain: dx = (g - mean(g) - z mean(g z)) / deviation;
// without the first mean where the norm is not centred.
Doubles norm_back(const Doubles& x, const std::vector<double>& gain, double eps, const Doubles& dy,
                  bool centred) {
  Doubles dx(x.rows, x.columns);
  const auto n = static_cast<double>(x.columns);
  for (int64_t r = 0; r < x.rows; ++r) {
    const RowScale scale = row_scale(x, r, eps, centred);
    double mean = 0, along = 0;
    for (int64_t c = 0; c < x.columns; ++c) {
      const double g = dy(r, c) * gain[c];
      mean += centred ? g / n : 0.0;
      along += g * (x(r, c) - scale.mean) * scale.inverse / n;
    }
    for (int64_t c = 0; c < x.columns; ++c) {
      const double z = (x(r, c) - scale.mean) * scale.inverse;
      dx(r, c) = (dy(r, c) * gain[c] - mean - z * along) * scale.inverse;
    }
  }
  return dx;
}

double capped_score(double x, float cap) {
  return cap == 0 ? x : static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap));
}

// The slope of that, from its value.
double cap_slope(double value, float cap) {
  const double part = cap == 0 ? 0.0 : value / static_cast<double>(cap);
  return 1 - part * part;
}

// One head of one query: the keys it sees and their shaped scores.
class HeadScores {
 public:
  HeadScores(const Doubles& queries, const Doubles& keys, const AttentionShape& s, int64_t t,
             int64_t head)
      : begin(s.window > 0 ? std::max<int64_t>(0, t - s.window + 1) : 0),
        own(head * s.head_dim),
        shared(head / (s.heads / s.kv_heads) * s.head_dim) {
    for (int64_t j = begin; j <= t; ++j) {
      double sum = 0;
      for (int64_t d = 0; d < s.head_dim; ++d) sum += queries(t, own + d) * keys(j, shared + d);
      scores.push_back(capped_score(sum * static_cast<double>(s.scale), s.soft_cap));
    }
  }
  int64_t begin, own, shared;
  std::vector<double> scores;
};

}  // namespace

Doubles product(const Doubles& a, const Doubles& b, Turned turned) {
  const bool left = turned == Turned::left, right = turned == Turned::right;
  const int64_t inner = left ? a.rows : a.columns;
  Doubles c(left ? a.columns : a.rows, right ? b.rows : b.columns);
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t k = 0; k < inner; ++k) {
      const double factor = left ? a(k, i) : a(i, k);
      for (int64_t j = 0; j < c.columns; ++j) c(i, j) += factor * (right ? b(j, k) : b(k, j));
    }
  }
  return c;
}

Doubles rms_norm(const Doubles& x, const std::vector<double>& gain, double eps) {
  Doubles y(x.rows, x.columns);
  for (int64_t r = 0; r < x.rows; ++r) {
    const double inverse = row_scale(x, r, eps, false).inverse;
    for (int64_t c = 0; c < x.columns; ++c) y(r, c) = x(r, c) * inverse * gain[c];
  }
  return y;
}

Doubles rms_norm_back(const Doubles& x, const std::vector<double>& gain, double eps,
                      const Doubles& dy, std::vector<double>* dgain) {
  for (int64_t r = 0; r < x.rows && dgain != nullptr; ++r) {
    const double inverse = row_scale(x, r, eps, false).inverse;
    for (int64_t c = 0; c < x.columns; ++c) (*dgain)[c] += dy(r, c) * x(r, c) * inverse;
  }
  return norm_back(x, gain, eps, dy, false);
}

Doubles layer_norm(const Doubles& x, const std::vector<double>& gain,
                   const std::vector<double>& bias, double eps) {
  Doubles y(x.rows, x.columns);
  for (int64_t r = 0; r < x.rows; ++r) {
    const RowScale scale = row_scale(x, r, eps, true);
    for (int64_t c = 0; c < x.columns; ++c)
      y(r, c) = (x(r, c) - scale.mean) * scale.inverse * gain[c] + bias[c];
  }
  return y;
}

Doubles layer_norm_back(const Doubles& x, const std::vector<double>& gain, double eps,
                        const Doubles& dy) {
  return norm_back(x, gain, eps, dy, true);
}

void layer_norm_gains_back(const Doubles& x, double eps, const Doubles& dy,
                           std::vector<double>& dgain, std::vector<double>& dbias) {
  for (int64_t r = 0; r < x.rows; ++r) {
    const RowScale scale = row_scale(x, r, eps, true);
    for (int64_t c = 0; c < x.columns; ++c) {
      dgain[c] += dy(r, c) * (x(r, c) - scale.mean) * scale.inverse;
      dbias[c] += dy(r, c);
    }
  }
}

Attention attention(const Doubles& queries, const Doubles& keys, const Doubles& values,
                    const AttentionShape& s) {
  Attention made{Doubles(queries.rows, s.heads * s.head_dim), Doubles(queries.rows, s.heads)};
  for (int64_t t = 0; t < queries.rows; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const HeadScores head(queries, keys, s, t, h);
      const double maximum = *std::max_element(head.scores.begin(), head.scores.end());
      double total = 0;
      for (const double score : head.scores) total += std::exp(score - maximum);
      made.sums(t, h) = maximum + std::log(total);
      for (size_t j = 0; j < head.scores.size(); ++j) {
        const double weight = std::exp(head.scores[j] - made.sums(t, h));
        for (int64_t d = 0; d < s.head_dim; ++d) {
          made.y(t, head.own + d) +=
              weight * values(head.begin + static_cast<int64_t>(j), head.shared + d);
        }
      }
    }
  }
  return made;
}

AttentionBack attention_back(const Doubles& queries, const Doubles& keys, const Doubles& values,
                             const Attention& kept, const AttentionShape& s, const Doubles& dy) {
  AttentionBack back{Doubles(queries.rows, queries.columns), Doubles(keys.rows, keys.columns),
                     Doubles(values.rows, values.columns)};
  for (int64_t t = 0; t < queries.rows; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const HeadScores head(queries, keys, s, t, h);
      double mean = 0;  // of dy v over the keys
      for (int64_t d = 0; d < s.head_dim; ++d)
        mean += dy(t, head.own + d) * kept.y(t, head.own + d);
      for (size_t i = 0; i < head.scores.size(); ++i) {
        const int64_t j = head.begin + static_cast<int64_t>(i);
        const double weight = std::exp(head.scores[i] - kept.sums(t, h));
        double along = 0;
        for (int64_t d = 0; d < s.head_dim; ++d) {
          along += dy(t, head.own + d) * values(j, head.shared + d);
          back.values(j, head.shared + d) += weight * dy(t, head.own + d);
        }
        const double dscore = weight * (along - mean) * cap_slope(head.scores[i], s.soft_cap) *
                              static_cast<double>(s.scale);
        for (int64_t d = 0; d < s.head_dim; ++d) {
          back.queries(t, head.own + d) += dscore * keys(j, head.shared + d);
          back.keys(j, head.shared + d) += dscore * queries(t, head.own + d);
        }
      }
    }
  }
  return back;
}

Doubles gated(Activation activation, const Doubles& gate, const Doubles& up) {
  Doubles y(gate.rows, gate.columns);
  for (size_t i = 0; i < y.values.size(); ++i) {
    y.values[i] = plain_act(activation, gate.values[i]);
    if (up.rows > 0) y.values[i] *= up.values[i];
  }
  return y;
}

GatedBack gated_back(Activation activation, const Doubles& gate, const Doubles& up,
                     const Doubles& dy) {
  GatedBack back{Doubles(gate.rows, gate.columns), Doubles(up.rows, up.columns)};
  for (size_t i = 0; i < dy.values.size(); ++i) {
    const double slope = plain_slope(activation, gate.values[i]) * dy.values[i];
    back.gate.values[i] = up.rows > 0 ? slope * up.values[i] : slope;
    if (up.rows > 0) back.up.values[i] = dy.values[i] * plain_act(activation, gate.values[i]);
  }
  return back;
}

double cross_entropy(std::span<double> logits, int32_t target, const LogitShape& shape) {
  for (double& logit : logits)
    logit = capped_score(logit * static_cast<double>(shape.scale), shape.cap);
  const double maximum = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const double logit : logits) total += std::exp(logit - maximum);
  const double sum = maximum + std::log(total), loss = sum - logits[static_cast<size_t>(target)];
  for (size_t c = 0; c < logits.size(); ++c) {
    const double by_shaped =
        std::exp(logits[c] - sum) - (static_cast<int64_t>(c) == target ? 1.0 : 0.0);
    logits[c] = by_shaped * cap_slope(logits[c], shape.cap) * static_cast<double>(shape.scale);
  }
  return loss;
}

}  // namespace qwb::plain
