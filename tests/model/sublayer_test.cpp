// x += after(mixer(before(x))), whole and group by group, against the textbook.
#include "lib/model/sublayer.h"

#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "tests/model/parts_helper.h"

namespace qwb {
namespace {

constexpr int64_t kStreamRows = 3, kStreamWidth = 24, kWide = 40;

class Sublayers : public testing::TestWithParam<bool> {};  // whether there is a norm behind

TEST_P(Sublayers, AreTheTextbooks) {
  RandomWeights weights(11);
  const MlpSpec mlp = {.up = weights.linear("up", kWide, kStreamWidth),
                       .down = weights.linear("down", kStreamWidth, kWide, true)};
  SublayerSpec spec = {.before = weights.norm("before", kStreamWidth), .mixer = mlp};
  if (GetParam()) spec.after = weights.norm("after", kStreamWidth, false, 1);
  const ModelConfig config = {
      .hidden = kStreamWidth, .norm_eps = 0.1, .activation = Activation::relu};
  const std::vector<float> x = random_floats(12, kStreamRows * kStreamWidth);
  const std::vector<InputGroup> groups = input_groups(config, {{spec}});
  ASSERT_EQ(groups.size(), 2u);
  for (const auto& executor : both_executors()) {
    const Sublayer sublayer(config, spec, weights, *executor);
    const LayerContext layer = {config, *executor, 0};
    const RotaryTable rotary(*executor, Rope{}, 0, kStreamRows);
    const Batch batch(kStreamRows, rotary, {});
    EXPECT_TRUE(sublayer.has_closing());
    EXPECT_EQ(sublayer.inner_size(config), kWide);
    const Matrix h = executor->allocate(kStreamRows, kStreamWidth);
    const Matrix inner = executor->allocate(kStreamRows, kWide);
    std::vector<float> whole = x, left = x;
    sublayer.advance(layer, batch, h, inner, Out(whole.data(), kStreamRows, kStreamWidth));
    const Out stream(left.data(), kStreamRows, kStreamWidth);
    std::vector<float> read(static_cast<size_t>(kStreamRows * kStreamWidth));
    sublayer.input(layer, groups[0], stream, batch, {},
                   Out(read.data(), kStreamRows, kStreamWidth));
    sublayer.input(layer, groups[1], stream, batch, {}, inner);
    sublayer.leave(layer, inner, stream);
    EXPECT_EQ(left, whole);
    for (int64_t r = 0; r < kStreamRows; ++r) {
      const Row row = row_of(x, r, kStreamWidth), normed = weights.normed(spec.before, row, 0.1);
      expect_row_near(read, r, normed);
      Row wide = weights.product(mlp.up, normed);
      for (double& value : wide) value = activated(Activation::relu, value);
      Row y = weights.product(mlp.down, wide);
      if (GetParam()) y = weights.normed(spec.after, y, 0.1);
      for (size_t i = 0; i < y.size(); ++i) y[i] += row[i];
      expect_row_near(whole, r, y);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AfterNorm, Sublayers, testing::Bool());

// No module's output is what experts add to the stream.
TEST(Sublayer, OfExpertsHasNoClosingModule) {
  RandomWeights weights(11);
  MoeSpec moe = {.router = weights.linear("router", 2, kStreamWidth), .used = 1};
  for (const std::string e : {"0", "1"})
    moe.experts.push_back({{weights.linear(e + ".gate", kWide, kStreamWidth)},
                           weights.linear(e + ".up", kWide, kStreamWidth),
                           weights.linear(e + ".down", kStreamWidth, kWide)});
  const SublayerSpec spec = {.before = weights.norm("before", kStreamWidth), .mixer = moe};
  const ModelConfig config = {.hidden = kStreamWidth};
  const auto executor = make_executor(ExecutorKind::fast, Threads(1));
  Sublayer sublayer(config, spec, weights, *executor);
  EXPECT_FALSE(sublayer.has_closing());
  EXPECT_EQ(sublayer.inner_size(config), kStreamWidth);
  EXPECT_EQ(sublayer.linears().size(), 7u);
  const Matrix x = executor->allocate(kStreamRows, kStreamWidth);
  executor->fill(x, 1);
  EXPECT_THROW(sublayer.leave({config, *executor, 0}, x, x), Error);
}

}  // namespace
}  // namespace qwb
