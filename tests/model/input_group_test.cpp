// Which modules read one input, what makes it, and where it goes.
#include "lib/model/input_group.h"

#include <gtest/gtest.h>

namespace qwb {
namespace {

LinearSpec linear_of(const char* module, int64_t out, int64_t in) {
  return {module, out, in};
}

std::vector<std::string> readers_of(const InputGroup& group) {
  std::vector<std::string> names;
  for (const LinearSpec& reader : group.readers) names.push_back(reader.module);
  return names;
}

using Names = std::vector<std::string>;

TEST(InputGroups, OfAttentionAndMlp) {
  const ModelConfig config = {.heads = 4, .kv_heads = 2, .head_dim = 8};
  const AttentionSpec attention = {
      .qkv = {linear_of("q", 32, 24), linear_of("k", 16, 24), linear_of("v", 16, 24)},
      .output = linear_of("o", 24, 32)};
  const MlpSpec mlp = {.gate = {linear_of("gate", 40, 24)},
                       .up = linear_of("up", 40, 24),
                       .down = linear_of("down", 24, 40)};
  const BlockSpec block = {
      {{.before = {"n1"}, .mixer = attention}, {.before = {"n2"}, .mixer = mlp, .after = {"n3"}}}};
  const std::vector<InputGroup> groups = input_groups(config, block);
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(readers_of(groups[0]), (Names{"q", "k", "v"}));
  EXPECT_EQ(groups[0].maker.norm.value().module, "n1");
  EXPECT_FALSE(groups[0].closes);
  EXPECT_EQ(readers_of(groups[1]), Names{"o"});
  EXPECT_EQ(groups[1].maker.linear.value().module, "v");
  EXPECT_EQ(groups[1].maker.first_row, 0);
  EXPECT_TRUE(groups[1].maker.by_value_head);
  EXPECT_TRUE(groups[1].closes && groups[1].adds);
  EXPECT_EQ(readers_of(groups[2]), (Names{"gate", "up"}));
  EXPECT_EQ(groups[2].sublayer, 1u);
  EXPECT_EQ(groups[3].maker.linear.value().module, "up");
  EXPECT_TRUE(groups[3].closes);
  EXPECT_FALSE(groups[3].adds);  // a norm stands between
  for (const InputGroup& group : groups) EXPECT_EQ(group.maker.obstacle, "");
  EXPECT_EQ(widest_input(config, {block}), 40);
  EXPECT_EQ(widest_closing_input(config, {{{block.sublayers[0]}}}), 32);
  EXPECT_EQ(block_linears(block).size(), 7u);
}

// The rows of v lie behind those of q and k; a curved activation takes no scale along.
TEST(InputGroups, OfFusedProjectionsAndPlainMlps) {
  ModelConfig config = {.heads = 4, .kv_heads = 4, .head_dim = 8, .activation = Activation::relu};
  const AttentionSpec attention = {.qkv = {linear_of("qkv", 96, 32)},
                                   .output = linear_of("o", 32, 32)};
  const MlpSpec mlp = {.up = linear_of("up", 64, 32), .down = linear_of("down", 32, 64)};
  const BlockSpec block = {
      {{.before = {"n1"}, .mixer = attention}, {.before = {"n2"}, .mixer = mlp}}};
  const std::vector<InputGroup> groups = input_groups(config, block);
  EXPECT_EQ(groups.at(1).maker.linear.value().module, "qkv");
  EXPECT_EQ(groups.at(1).maker.first_row, 64);
  EXPECT_EQ(groups.at(3).maker.obstacle, "");
  config.activation = Activation::gelu_tanh;
  EXPECT_NE(input_groups(config, block).at(3).maker.obstacle, "");
}

// Gate and up in one module: the rows of up lie behind those of gate.
TEST(InputGroups, OfFusedGates) {
  MlpSpec mlp = {.up = linear_of("gate_up", 128, 32), .down = linear_of("down", 32, 64)};
  mlp.fused = true;
  const ModelConfig config = {.activation = Activation::silu};
  const auto groups = input_groups(config, {{{.before = {"n"}, .mixer = mlp}}});
  EXPECT_EQ(groups.at(1).maker.linear.value().module, "gate_up");
  EXPECT_EQ(groups.at(1).maker.first_row, 64);
  EXPECT_EQ(groups.at(1).maker.obstacle, "");
}

// Beside each other: one input where they share a norm; neither closes what their sum leaves.
TEST(InputGroups, OfParallelSublayers) {
  using Part = InputGroup::Part;
  const ModelConfig config = {.heads = 4, .kv_heads = 2, .head_dim = 8};
  ParallelSpec spec;
  spec.attention.qkv = {linear_of("q", 32, 24), linear_of("k", 16, 24), linear_of("v", 16, 24)};
  spec.attention.output = linear_of("o", 24, 32);
  spec.mlp.gate = {linear_of("gate", 40, 24)};
  spec.mlp.up = linear_of("up", 40, 24);
  spec.mlp.down = linear_of("down", 24, 40);
  const auto parts = [](const std::vector<InputGroup>& groups) {
    std::vector<Part> all;
    for (const InputGroup& group : groups) {
      all.push_back(group.part);
      EXPECT_FALSE(group.closes || group.adds);
    }
    return all;
  };
  const auto one = input_groups(config, {{{.before = {"n"}, .mixer = spec}}});
  EXPECT_EQ(parts(one), (std::vector<Part>{Part::entry, Part::attended, Part::mlp_inner}));
  EXPECT_EQ(readers_of(one[0]), (Names{"q", "k", "v", "gate", "up"}));
  EXPECT_EQ(one[1].maker.linear.value().module, "v");
  EXPECT_EQ(one[2].maker.linear.value().module, "up");
  spec.mlp_norm = {"n2"};
  const auto two = input_groups(config, {{{.before = {"n"}, .mixer = spec}}});
  EXPECT_EQ(parts(two),
            (std::vector<Part>{Part::entry, Part::attended, Part::mlp_entry, Part::mlp_inner}));
  EXPECT_EQ(readers_of(two[0]), (Names{"q", "k", "v"}));
  EXPECT_EQ(two[2].maker.norm.value().module, "n2");
}

// Without a norm the readers see the stream, which nobody may scale; a scaled sum is not added as
// it is.
TEST(InputGroups, OfStreamsWithoutNormsAndScaledSums) {
  const MlpSpec mlp = {.up = linear_of("up", 64, 32), .down = linear_of("down", 32, 64)};
  const auto bare = input_groups({}, {{{.before = {}, .mixer = mlp, .after = {"n"}}}});
  EXPECT_EQ(bare.at(0).maker.obstacle, "it is the residual stream itself");
  const ModelConfig scaled = {.residual_scale = 0.5f};
  const auto groups = input_groups(scaled, {{{.before = {"n"}, .mixer = mlp}}});
  EXPECT_TRUE(groups.at(1).closes);
  EXPECT_FALSE(groups.at(1).adds);
}

TEST(InputGroups, OfExperts) {
  MoeSpec moe = {.router = linear_of("router", 2, 24), .used = 1};
  for (const char* up : {"up0", "up1"})
    moe.experts.push_back(
        {{linear_of("gate", 40, 24)}, linear_of(up, 40, 24), linear_of("down", 24, 40)});
  const std::vector<InputGroup> groups = input_groups({}, {{{.before = {"n"}, .mixer = moe}}});
  ASSERT_EQ(groups.size(), 5u);
  EXPECT_TRUE(groups[0].routes);
  EXPECT_EQ(groups[0].expert, -1);
  for (size_t i = 1; i < groups.size(); ++i) {
    EXPECT_EQ(groups[i].expert, static_cast<int64_t>(i - 1) / 2);
    EXPECT_FALSE(groups[i].routes || groups[i].closes || groups[i].adds);
  }
  EXPECT_NE(groups[0].maker.obstacle, "");
  EXPECT_NE(groups[3].maker.obstacle, "");
  EXPECT_EQ(groups[4].maker.obstacle, "");
  EXPECT_EQ(groups[4].maker.linear.value().module, "up1");
}

}  // namespace
}  // namespace qwb
