// A model's loss in f64, from the formulas of training (lib/exec/reference/gradients.h): what the
// tape's gradients are compared with by central differences. Weights are what their codecs say.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "lib/exec/reference/gradients.h"
#include "lib/exec/reference/reference.h"
#include "lib/model/tape/taped_model.h"
#include "tests/exec/executor_helper.h"

namespace qwb {

struct Factors64 {
  plain::Doubles a, b;
  double scale = 1;
};
using AllFactors64 = std::map<std::string, Factors64>;

class Model64 {
 public:
  Model64(const TensorSource& source, const ModelConfig& config, const ModelSpec& spec)
      : source_(source), config_(config), spec_(spec) {}

  // Sum of factor * loss over the targets.
  double loss(const TrainingRows& rows, const AllFactors64& factors) const {
    double sum = 0;
    int64_t first = 0;
    for (const int64_t count : rows.documents) {
      plain::Doubles x = embed(rows, first, count);
      for (size_t i = 0; i < spec_.blocks.size(); ++i) {
        for (const SublayerSpec& sublayer : spec_.blocks[i].sublayers)
          advance(sublayer, static_cast<int64_t>(i), factors, x);
      }
      const plain::Doubles hidden = norm(spec_.final_norm, x);
      plain::Doubles logits =
          plain::product(hidden, matrix(spec_.output_embedding, config_.vocab, config_.hidden),
                         plain::Turned::right);
      for (const TrainingRows::Target& target : rows.targets) {
        if (target.row < first || target.row >= first + count) continue;
        const auto row = std::span(logits.values)
                             .subspan(static_cast<size_t>((target.row - first) * config_.vocab),
                                      static_cast<size_t>(config_.vocab));
        sum += static_cast<double>(target.factor) *
               plain::cross_entropy(row, target.token,
                                    {.scale = config_.logit_scale, .cap = config_.logit_soft_cap});
      }
      first += count;
    }
    return sum;
  }

 private:
  using Doubles = plain::Doubles;

  // [out, in]
  const Doubles& matrix(const std::string& module, int64_t out, int64_t in,
                        Orientation orientation = Orientation::out_in) const {
    const auto [it, is_new] = matrices_.try_emplace(module, out, in);
    if (!is_new) return it->second;
    const Weight weight = find_weight(source_, module, out, in, orientation);
    const std::vector<float> stored = reference_dequantize(weight);
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        it->second(o, i) = static_cast<double>(
            stored[weight.orientation == Orientation::out_in ? o * in + i : i * out + o]);
      }
    }
    return it->second;
  }
  std::vector<double> vector(const std::string& name, int64_t size, double offset = 0) const {
    std::vector<double> values;
    for (const float value : find_vector(source_, name, size))
      values.push_back(static_cast<double>(value) + offset);
    return values;
  }

  Doubles embed(const TrainingRows& rows, int64_t first, int64_t count) const {
    Doubles x(count, config_.hidden);
    const Doubles& tokens = matrix(spec_.embedding, config_.vocab, config_.hidden);
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t c = 0; c < config_.hidden; ++c) {
        x(t, c) = tokens(rows.tokens[static_cast<size_t>(first + t)], c) *
                  static_cast<double>(config_.embedding_scale);
        if (!spec_.positions.empty())
          x(t, c) += matrix(spec_.positions, config_.max_positions, config_.hidden)(t, c);
      }
    }
    return x;
  }

  Doubles linear(const LinearSpec& spec, const AllFactors64& factors, const Doubles& x) const {
    Doubles y = plain::product(x, matrix(spec.module, spec.out, spec.in, spec.orientation),
                               plain::Turned::right);
    if (spec.bias) {
      const std::vector<double> bias = vector(spec.module + ".bias", spec.out);
      for (int64_t r = 0; r < y.rows; ++r) {
        for (int64_t c = 0; c < y.columns; ++c) y(r, c) += bias[static_cast<size_t>(c)];
      }
    }
    const auto found = factors.find(spec.module);
    if (found == factors.end()) return y;
    const Factors64& own = found->second;
    const Doubles added =
        plain::product(plain::product(x, own.a, plain::Turned::right), own.b, plain::Turned::right);
    for (size_t i = 0; i < y.values.size(); ++i) y.values[i] += own.scale * added.values[i];
    return y;
  }

  Doubles norm(const NormSpec& spec, const Doubles& x) const {
    if (spec.empty()) return x;
    const std::vector<double> gain =
        vector(spec.module + ".weight", x.columns, static_cast<double>(spec.offset));
    if (!spec.centred) return plain::rms_norm(x, gain, config_.norm_eps);
    const std::vector<double> bias = spec.has_bias()
                                         ? vector(spec.module + ".bias", x.columns)
                                         : std::vector<double>(static_cast<size_t>(x.columns));
    return plain::layer_norm(x, gain, bias, config_.norm_eps);
  }

  // Over all heads at once, or over each.
  Doubles norm_heads(const NormSpec& spec, bool at_once, Doubles x) const {
    if (spec.empty()) return x;
    const int64_t rows = x.rows, columns = x.columns;
    if (!at_once) x.rows = rows * columns / config_.head_dim, x.columns = config_.head_dim;
    x = norm(spec, x);
    x.rows = rows, x.columns = columns;
    return x;
  }

  void rotate(int64_t layer, Doubles& x) const {
    const RotaryTable table(reference_executor(), config_.rope, 0, x.rows);
    const Rotation& rotation = table.of(layer);
    if (rotation.empty()) return;
    const int64_t pairs = rotation.cosine.columns();
    const bool halves = config_.rope.pairs == RotaryPairs::halves;
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t begin = 0; begin < x.columns; begin += config_.head_dim) {
        for (int64_t k = 0; k < pairs; ++k) {
          double &first = x(t, begin + (halves ? k : 2 * k)),
                 &second = x(t, begin + (halves ? k + pairs : 2 * k + 1));
          const auto c = static_cast<double>(rotation.cosine.view().data[t * pairs + k]);
          const auto s = static_cast<double>(rotation.sine.view().data[t * pairs + k]);
          const double turned = first * c - second * s;
          second = second * c + first * s;
          first = turned;
        }
      }
    }
  }

  static Doubles columns(const Doubles& x, int64_t first, int64_t count) {
    Doubles part(x.rows, count);
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t c = 0; c < count; ++c) part(r, c) = x(r, first + c);
    }
    return part;
  }

  Doubles attention(const AttentionSpec& spec, int64_t layer, const AllFactors64& factors,
                    const Doubles& h) const {
    const int64_t width = config_.heads * config_.head_dim;
    const int64_t shared = config_.kv_heads * config_.head_dim;
    Doubles q, k, v;
    if (spec.qkv.size() == 1) {
      const Doubles all = linear(spec.qkv[0], factors, h);
      q = columns(all, 0, width);
      k = columns(all, width, shared);
      v = columns(all, width + shared, shared);
    } else {
      q = norm_heads(spec.q_norm, spec.norms_span_heads, linear(spec.qkv[0], factors, h));
      k = norm_heads(spec.k_norm, spec.norms_span_heads, linear(spec.qkv[1], factors, h));
      v = linear(spec.qkv[2], factors, h);
    }
    rotate(layer, q);
    rotate(layer, k);
    const auto index = static_cast<size_t>(layer);
    const AttentionShape shape{
        .heads = config_.heads,
        .kv_heads = config_.kv_heads,
        .head_dim = config_.head_dim,
        .window = config_.window[index],
        .scale = config_.attention_scale *
                 (config_.layer_scale.empty() ? 1.0f : config_.layer_scale[index]),
        .soft_cap = config_.attention_soft_cap};
    return linear(spec.output, factors, plain::attention(q, k, v, shape).y);
  }

  Doubles mlp(const MlpSpec& spec, const AllFactors64& factors, const Doubles& h) const {
    Doubles up = linear(spec.up, factors, h), gate;
    if (spec.fused) {
      gate = columns(up, 0, spec.down.in);
      up = columns(up, spec.down.in, spec.down.in);
    } else if (!spec.gate.empty()) {
      gate = linear(spec.gate[0], factors, h);
    } else {
      std::swap(gate, up);
    }
    return linear(spec.down, factors, plain::gated(config_.activation, gate, up));
  }

  Doubles moe(const MoeSpec& spec, const AllFactors64& factors, const Doubles& h) const {
    const Doubles scores = linear(spec.router, factors, h);
    Doubles made(h.rows, h.columns);
    std::vector<Doubles> answers;
    for (const MlpSpec& expert : spec.experts) answers.push_back(mlp(expert, factors, h));
    for (int64_t t = 0; t < h.rows; ++t) {
      std::vector<std::pair<double, int64_t>> order;  // descending scores, ascending numbers
      for (int64_t e = 0; e < scores.columns; ++e) order.emplace_back(-scores(t, e), e);
      std::sort(order.begin(), order.end());
      double total = 0;
      for (int64_t k = 0; k < spec.used; ++k) total += std::exp(order[0].first - order[k].first);
      for (int64_t k = 0; k < spec.used; ++k) {
        const double weight = std::exp(order[0].first - order[k].first) / total;
        for (int64_t c = 0; c < h.columns; ++c)
          made(t, c) += weight * answers[static_cast<size_t>(order[k].second)](t, c);
      }
    }
    return made;
  }

  void advance(const SublayerSpec& spec, int64_t layer, const AllFactors64& factors,
               Doubles& x) const {
    const Doubles h = norm(spec.before, x);
    Doubles made;
    if (const auto* own = std::get_if<AttentionSpec>(&spec.mixer)) {
      made = attention(*own, layer, factors, h);
    } else if (const auto* of_mlp = std::get_if<MlpSpec>(&spec.mixer)) {
      made = mlp(*of_mlp, factors, h);
    } else if (const auto* of_moe = std::get_if<MoeSpec>(&spec.mixer)) {
      made = moe(*of_moe, factors, h);
    } else {
      const auto& both = std::get<ParallelSpec>(spec.mixer);
      made = attention(both.attention, layer, factors, h);
      const Doubles other =
          mlp(both.mlp, factors, both.mlp_norm.empty() ? h : norm(both.mlp_norm, x));
      for (size_t i = 0; i < made.values.size(); ++i) made.values[i] += other.values[i];
    }
    made = norm(spec.after, made);
    for (size_t i = 0; i < made.values.size(); ++i)
      x.values[i] += static_cast<double>(config_.residual_scale) * made.values[i];
  }

  const TensorSource& source_;
  const ModelConfig& config_;
  const ModelSpec& spec_;
  mutable std::map<std::string, Doubles> matrices_;
};

}  // namespace qwb
