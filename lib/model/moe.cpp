#include "lib/model/moe.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace qwb {

Moe::Moe(const MoeSpec& spec, const TensorSource& source)
    : router_(spec.router, source), used_(spec.used) {
  for (const MlpSpec& expert : spec.experts) experts_.emplace_back(expert, source);
}

std::vector<Linear*> Moe::linears() {
  std::vector<Linear*> all = {&router_};
  for (Mlp& expert : experts_) {
    for (Linear* linear : expert.linears()) all.push_back(linear);
  }
  return all;
}

std::vector<Routed> Moe::route(const LayerContext& layer, const float* h, int64_t tokens) const {
  const auto count = static_cast<int64_t>(experts_.size());
  FloatBuffer scores(tokens * count, MemoryKind::activations);
  router_.apply(layer.backend, h, tokens, scores.data());
  std::vector<Routed> routed(experts_.size());
  std::vector<int64_t> order(experts_.size());
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = scores.data() + t * count;
    std::iota(order.begin(), order.end(), int64_t{0});
    std::partial_sort(
        order.begin(), order.begin() + used_, order.end(),
        [row](int64_t a, int64_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
    // The softmax over all experts, normalized over those used, is the softmax over those used.
    std::vector<double> weights;
    for (int64_t k = 0; k < used_; ++k)
      weights.push_back(std::exp(static_cast<double>(row[order[static_cast<size_t>(k)]]) -
                                 static_cast<double>(row[order[0]])));
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (size_t k = 0; k < weights.size(); ++k) {
      Routed& expert = routed[static_cast<size_t>(order[k])];
      expert.tokens.push_back(t);
      expert.weights.push_back(static_cast<float>(weights[k] / sum));
    }
  }
  return routed;
}

void gather_tokens(const float* x, int64_t columns, const std::vector<int64_t>& tokens,
                   float* out) {
  for (const int64_t token : tokens) out = std::copy_n(x + token * columns, columns, out);
}

void Moe::forward(const LayerContext& layer, const float* h, int64_t tokens, float* y) const {
  const int64_t hidden = layer.config.hidden;
  std::fill_n(y, tokens * hidden, 0.0f);
  const std::vector<Routed> routed = route(layer, h, tokens);
  for (size_t e = 0; e < experts_.size(); ++e) {
    const auto rows = static_cast<int64_t>(routed[e].tokens.size());
    if (rows == 0) continue;
    const Linear& down = experts_[e].closing();
    FloatBuffer x(rows * hidden, MemoryKind::activations),
        inner(rows * down.spec.in, MemoryKind::activations);
    gather_tokens(h, hidden, routed[e].tokens, x.data());
    experts_[e].inner(layer, x.data(), rows, inner.data());
    down.apply(layer.backend, inner.data(), rows, x.data());
    for (int64_t r = 0; r < rows; ++r) {
      const float weight = routed[e].weights[static_cast<size_t>(r)];
      float* to = y + routed[e].tokens[static_cast<size_t>(r)] * hidden;
      for (int64_t c = 0; c < hidden; ++c) to[c] += weight * x[r * hidden + c];
    }
  }
}

}  // namespace qwb
