// Routing and the experts' sum against the textbook: softmax over all experts, those of the highest
// scores, their weights normalized to 1.
#include "lib/model/moe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/model/parts_helper.h"

namespace qwb {
namespace {

constexpr int64_t kMoeRows = 9, kMoeHidden = 24, kMoeInner = 32, kExperts = 5, kUsed = 2;

MoeSpec moe_of(RandomWeights& weights) {
  MoeSpec spec;
  spec.router = weights.linear("router", kExperts, kMoeHidden);
  for (int64_t e = 0; e < kExperts; ++e) {
    const std::string name = std::to_string(e);
    spec.experts.push_back({{weights.linear(name + ".gate", kMoeInner, kMoeHidden)},
                            weights.linear(name + ".up", kMoeInner, kMoeHidden),
                            weights.linear(name + ".down", kMoeHidden, kMoeInner)});
  }
  spec.used = kUsed;
  return spec;
}

Row answer(const RandomWeights& weights, const MlpSpec& expert, const Row& x) {
  const Row gate = weights.product(expert.gate[0], x), up = weights.product(expert.up, x);
  Row inner;
  for (size_t i = 0; i < up.size(); ++i)
    inner.push_back(activated(Activation::silu, gate[i]) * up[i]);
  return weights.product(expert.down, inner);
}

// What each expert's answer to x is multiplied with.
Row shares(const RandomWeights& weights, const MoeSpec& spec, const Row& x) {
  Row scores = weights.product(spec.router, x);
  double all = 0, used = 0;
  for (double& score : scores) all += score = std::exp(score);
  Row sorted = scores;
  std::sort(sorted.rbegin(), sorted.rend());
  for (double& score : scores) {
    if (score < sorted[kUsed - 1]) score = 0;
    used += score /= all;
  }
  for (double& score : scores) score /= used;
  return scores;
}

TEST(Moe, IsTheTextbooks) {
  RandomWeights weights(5);
  const MoeSpec spec = moe_of(weights);
  const ModelConfig config = {.activation = Activation::silu};
  const std::vector<float> h = random_floats(6, kMoeRows * kMoeHidden);
  const In in(h.data(), kMoeRows, kMoeHidden);
  for (const auto& executor : both_executors()) {
    const Moe moe(spec, weights, *executor);
    const LayerContext layer = {config, *executor, 0};
    std::vector<float> y(h.size(), 7.0f);  // what was there goes
    moe.forward(layer, in, Out(y.data(), kMoeRows, kMoeHidden));
    const std::vector<Routed> routed = moe.route(layer, in);
    for (int64_t t = 0; t < kMoeRows; ++t) {
      const Row x = row_of(h, t, kMoeHidden), share = shares(weights, spec, x);
      Row expected(static_cast<size_t>(kMoeHidden));
      for (size_t e = 0; e < share.size(); ++e) {
        const auto& tokens = routed[e].tokens;
        const auto at = std::find(tokens.begin(), tokens.end(), t);
        ASSERT_EQ(at != tokens.end(), share[e] > 0) << "token " << t << ", expert " << e;
        if (at == tokens.end()) continue;
        EXPECT_NEAR(routed[e].weights[at - tokens.begin()], share[e], 1e-5);
        const Row own = answer(weights, spec.experts[e], x);
        for (size_t i = 0; i < own.size(); ++i) expected[i] += share[e] * own[i];
      }
      expect_row_near(y, t, expected);
    }
  }
}

// So says moe.h.
TEST(Moe, OfEqualScoresTheLowerNumberIsTaken) {
  RandomWeights weights(5);
  const MoeSpec spec = moe_of(weights);
  std::fill_n(weights.values("router.weight"), kExperts * kMoeHidden, 0.0f);
  const ModelConfig config;
  const std::vector<float> h = random_floats(6, kMoeRows * kMoeHidden);
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  const auto routed = Moe(spec, weights, *executor)
                          .route({config, *executor, 0}, In(h.data(), kMoeRows, kMoeHidden));
  std::vector<int64_t> all(static_cast<size_t>(kMoeRows));
  std::iota(all.begin(), all.end(), int64_t{0});
  for (size_t e = 0; e < routed.size(); ++e) {
    EXPECT_EQ(routed[e].tokens, e < kUsed ? all : std::vector<int64_t>()) << e;
    for (const float weight : routed[e].weights) EXPECT_EQ(weight, 0.5f);
  }
}

}  // namespace
}  // namespace qwb
