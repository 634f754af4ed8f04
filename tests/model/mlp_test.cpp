// The input of the down projection against the textbook, gated and plain, for every activation.
#include "lib/model/mlp.h"

#include <gtest/gtest.h>

#include "tests/model/parts_helper.h"

namespace qwb {
namespace {

constexpr int64_t kMlpRows = 5, kMlpHidden = 24, kMlpInner = 40;

class Mlps : public testing::TestWithParam<Activation> {};

TEST_P(Mlps, AreTheTextbooks) {
  RandomWeights weights(3);
  const std::vector<float> h = random_floats(4, kMlpRows * kMlpHidden);
  MlpSpec spec = {.gate = {weights.linear("gate", kMlpInner, kMlpHidden, true)},
                  .up = weights.linear("up", kMlpInner, kMlpHidden, true),
                  .down = weights.linear("down", kMlpHidden, kMlpInner)};
  const ModelConfig config = {.activation = GetParam()};
  for (const bool gated : {true, false}) {
    const std::vector<LinearSpec> gate = spec.gate;
    if (!gated) spec.gate.clear();
    for (const auto& executor : both_executors()) {
      Mlp mlp(spec, weights, *executor);
      EXPECT_EQ(mlp.linears().size(), gated ? 3u : 2u);
      EXPECT_EQ(mlp.closing().spec.module, "down");
      std::vector<float> inner(static_cast<size_t>(kMlpRows * kMlpInner));
      mlp.inner({config, *executor, 0}, In(h.data(), kMlpRows, kMlpHidden),
                Out(inner.data(), kMlpRows, kMlpInner));
      for (int64_t r = 0; r < kMlpRows; ++r) {
        const Row x = row_of(h, r, kMlpHidden), up = weights.product(spec.up, x);
        const Row entry = gated ? weights.product(gate[0], x) : up;
        Row expected;
        for (size_t i = 0; i < up.size(); ++i)
          expected.push_back(activated(GetParam(), entry[i]) * (gated ? up[i] : 1));
        expect_row_near(inner, r, expected);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Activations, Mlps,
                         testing::Values(Activation::silu, Activation::gelu_tanh,
                                         Activation::gelu_erf, Activation::quick_gelu,
                                         Activation::relu));

}  // namespace
}  // namespace qwb
