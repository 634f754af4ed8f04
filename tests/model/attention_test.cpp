// Attention against the textbook: every query over the keys that it sees, in f64, for separate and
// fused projections, grouped heads, norms over heads, rotation, windows, soft caps and scales, with
// and without a past in the cache.
#include "lib/model/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/parts_helper.h"

namespace qwb {
namespace {

constexpr int64_t kHidden = 24, kDim = 8, kHeads = 4, kPositions = 11;

struct AttentionCase {
  const char* name;
  int64_t kv_heads;
  bool fused, norms, rotates;
  int64_t window;
  float soft_cap, layer_scale;
};

struct Textbook {
  const AttentionCase& which;
  const ModelConfig& config;
  const RandomWeights& weights;
  const AttentionSpec& spec;

  // q, k or v (0, 1, 2) of one head of the token at a position.
  Row head(const Row& h, int64_t position, int part, int64_t number) const {
    const int64_t before = which.fused ? (part == 0   ? 0
                                          : part == 1 ? kHeads
                                                      : kHeads + config.kv_heads)
                                       : 0;
    const Row all = weights.product(spec.qkv[which.fused ? 0 : static_cast<size_t>(part)], h);
    const auto begin = all.begin() + (before + number) * kDim;
    Row own(begin, begin + kDim);
    if (part == 2) return own;
    const NormSpec& norm = part == 0 ? spec.q_norm : spec.k_norm;
    if (!norm.empty()) own = weights.normed(norm, own, config.norm_eps);
    return which.rotates ? rotated(own, position) : own;
  }
  Row rotated(const Row& x, int64_t position) const {
    Row y = x;
    for (size_t k = 0; k < kDim / 2; ++k) {
      const double angle =
          static_cast<double>(position) * static_cast<double>(config.rope.frequencies[k]);
      const double c = std::cos(angle), s = std::sin(angle), a = x[k], b = x[k + kDim / 2];
      y[k] = a * c - b * s;
      y[k + kDim / 2] = b * c + a * s;
    }
    return y;
  }
  // All heads of the token at `position`, one behind the other.
  Row attended(const std::vector<Row>& h, int64_t position) const {
    Row all;
    for (int64_t n = 0; n < kHeads; ++n) {
      const int64_t kv = n / (kHeads / config.kv_heads);
      const Row q = head(h[static_cast<size_t>(position)], position, 0, n);
      const int64_t first =
          which.window > 0 ? std::max<int64_t>(0, position - which.window + 1) : 0;
      Row sum(kDim);
      double total = 0;
      for (int64_t p = first; p <= position; ++p) {
        const Row k = head(h[static_cast<size_t>(p)], p, 1, kv);
        const Row v = head(h[static_cast<size_t>(p)], p, 2, kv);
        double score = 0;
        for (size_t i = 0; i < kDim; ++i) score += q[i] * k[i];
        score *=
            static_cast<double>(config.attention_scale) * static_cast<double>(which.layer_scale);
        const auto cap = static_cast<double>(which.soft_cap);
        const double weight = std::exp(cap > 0 ? cap * std::tanh(score / cap) : score);
        total += weight;
        for (size_t i = 0; i < kDim; ++i) sum[i] += weight * v[i];
      }
      for (const double value : sum) all.push_back(value / total);
    }
    return all;
  }
};

class Attentions : public testing::TestWithParam<AttentionCase> {};

TEST_P(Attentions, AreTheTextbooks) {
  const AttentionCase& c = GetParam();
  RandomWeights weights(7);
  ModelConfig config = {.heads = kHeads, .kv_heads = c.kv_heads, .head_dim = kDim, .norm_eps = 0.1};
  config.attention_scale = 0.4f;
  config.attention_soft_cap = c.soft_cap;
  config.window = {0, c.window};
  if (c.layer_scale != 1) config.layer_scale = {1, c.layer_scale};
  if (c.rotates) config.rope.frequencies = {1, 0.3f, 0.1f, 0.03f};
  AttentionSpec spec;
  const int64_t q = kHeads * kDim, kv = c.kv_heads * kDim;
  if (c.fused)
    spec.qkv = {weights.linear("qkv", q + 2 * kv, kHidden, true)};
  else
    spec.qkv = {weights.linear("q", q, kHidden), weights.linear("k", kv, kHidden),
                weights.linear("v", kv, kHidden, true)};
  if (c.norms) {
    spec.q_norm = weights.norm("q_norm", kDim);
    spec.k_norm = weights.norm("k_norm", kDim);
  }
  spec.output = weights.linear("o", kHidden, q);
  const std::vector<float> h = random_floats(8, kPositions * kHidden);
  std::vector<Row> rows;
  for (int64_t p = 0; p < kPositions; ++p) rows.push_back(row_of(h, p, kHidden));
  const Textbook textbook{c, config, weights, spec};
  for (const auto& executor : both_executors()) {
    const Attention attention(config, spec, weights, *executor);
    EXPECT_EQ(attention.closing().spec.module, "o");
    std::vector<float> keys(static_cast<size_t>(kPositions * kv)),
        values = keys, y(static_cast<size_t>(kPositions * q));
    LayerCache cache = {Out(keys.data(), kPositions, kv), Out(values.data(), kPositions, kv)};
    for (const int64_t tokens : {6, 1, 4}) {
      const RotaryTable rotary(*executor, config.rope, cache.past, tokens);
      attention.inner({config, *executor, 1}, In(h.data() + cache.past * kHidden, tokens, kHidden),
                      Batch(tokens, rotary, cache), Out(y.data() + cache.past * q, tokens, q));
      cache.past += tokens;
    }
    for (int64_t p = 0; p < kPositions; ++p) expect_row_near(y, p, textbook.attended(rows, p));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Attentions,
    testing::Values(AttentionCase{"plain", 4, false, false, false, 0, 0, 1},
                    AttentionCase{"grouped_rotated", 2, false, false, true, 0, 0, 1},
                    AttentionCase{"normed_one_head", 1, false, true, true, 0, 0, 1},
                    AttentionCase{"window", 2, false, false, true, 3, 0, 1},
                    AttentionCase{"soft_cap", 2, false, false, true, 4, 0.5f, 1},
                    AttentionCase{"fused_scaled", 4, true, false, false, 0, 0, 0.5f}),
    [](const auto& case_) { return case_.param.name; });

}  // namespace
}  // namespace qwb
