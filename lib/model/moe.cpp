#include "lib/model/moe.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/model/routing.h"

namespace qwb {

Moe::Moe(const MoeSpec& spec, const TensorSource& source, const Executor& executor)
    : router_(spec.router, source, executor), used_(spec.used), normalized_(spec.normalized) {
  for (const MlpSpec& expert : spec.experts) experts_.emplace_back(expert, source, executor);
  if (spec.shared) shared_.emplace(*spec.shared, source, executor);
  if (!spec.shared_gate.module.empty()) shared_gate_.emplace(spec.shared_gate, source, executor);
}

std::vector<Linear*> Moe::linears() {
  std::vector<Linear*> all = {&router_};
  for (Mlp& expert : experts_) {
    for (Linear* linear : expert.linears()) all.push_back(linear);
  }
  if (shared_gate_) all.push_back(&*shared_gate_);
  if (shared_) {
    for (Linear* linear : shared_->linears()) all.push_back(linear);
  }
  return all;
}

namespace {

double sum_of_exponentials(const float* row, int64_t count, float largest) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum += std::exp(static_cast<double>(row[i]) - static_cast<double>(largest));
  return sum;
}

}  // namespace

std::vector<Routed> routes_of(const std::vector<float>& scores, int64_t experts, int64_t used,
                              bool normalized) {
  const int64_t tokens = std::ssize(scores) / experts;
  std::vector<Routed> routed(static_cast<size_t>(experts));
  std::vector<int64_t> order(static_cast<size_t>(experts));
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = scores.data() + t * experts;
    std::iota(order.begin(), order.end(), int64_t{0});
    std::partial_sort(
        order.begin(), order.begin() + used, order.end(),
        [row](int64_t a, int64_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
    // The softmax over all experts, normalized over those used, is the softmax over those used.
    std::vector<double> weights;
    for (int64_t k = 0; k < used; ++k)
      weights.push_back(
          std::exp(static_cast<double>(row[order[k]]) - static_cast<double>(row[order[0]])));
    double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    if (!normalized) sum = sum_of_exponentials(row, experts, row[order[0]]);
    for (size_t k = 0; k < weights.size(); ++k) {
      Routed& expert = routed[order[k]];
      expert.tokens.push_back(t);
      expert.weights.push_back(static_cast<float>(weights[k] / sum));
    }
  }
  return routed;
}

std::vector<Routed> Moe::route(const LayerContext& layer, const Rows& h) const {
  const auto count = static_cast<int64_t>(experts_.size());
  const Matrix made = layer.executor.allocate(h.values.rows, count);
  router_.apply(layer.executor, h, made);
  return routes_of(layer.executor.download(made), count, used_, normalized_);
}

namespace {

// How many of these tokens, ascending, each piece has: none of those that have none.
std::vector<int64_t> pieces_of(const std::vector<int64_t>& tokens,
                               std::span<const int64_t> pieces) {
  std::vector<int64_t> counts;
  auto next = tokens.begin();
  int64_t end = 0;
  for (const int64_t piece : pieces) {
    end += piece;
    const auto last = std::lower_bound(next, tokens.end(), end);
    if (last != next) counts.push_back(last - next);
    next = last;
  }
  return counts;
}

}  // namespace

void Moe::forward(const LayerContext& layer, const Rows& h, Out y) const {
  const Executor& executor = layer.executor;
  executor.fill(y, 0);
  const std::vector<Routed> routed = route(layer, h);
  for (size_t e = 0; e < experts_.size(); ++e) {
    const auto rows = static_cast<int64_t>(routed[e].tokens.size());
    if (rows == 0) continue;
    const Linear& down = experts_[e].closing();
    const std::vector<int64_t> pieces = pieces_of(routed[e].tokens, h.pieces);
    const Matrix x = executor.allocate(rows, h.values.columns);
    const Matrix inner = executor.allocate(rows, down.spec.in);
    executor.gather(h.values, routed[e].tokens, x);
    experts_[e].inner(layer, Rows(x, pieces), inner);
    down.apply(executor, Rows(inner, pieces), x);
    executor.scatter_add(x, routed[e].tokens, routed[e].weights, y);
  }
  if (shared_) add_shared(layer, h, y);
}

void Moe::add_shared(const LayerContext& layer, const Rows& h, Out y) const {
  const Executor& executor = layer.executor;
  const Linear& down = shared_->closing();
  const Matrix inner = executor.allocate(y.rows, down.spec.in);
  shared_->inner(layer, h, inner);
  const Rows finished(inner, h.pieces);
  if (!shared_gate_) return down.apply(executor, finished, y, Accumulate::yes);
  const Matrix answer = executor.allocate(y.rows, y.columns);
  down.apply(executor, finished, answer);
  const Matrix scores = executor.allocate(y.rows, 1);
  shared_gate_->apply(executor, h, scores);
  std::vector<float> factors = executor.download(scores);
  for (float& factor : factors)
    factor = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(factor))));
  std::vector<int64_t> all(factors.size());
  std::iota(all.begin(), all.end(), int64_t{0});
  executor.scatter_add(answer, all, factors, y);
}

}  // namespace qwb
