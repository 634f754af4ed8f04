// A walk from group to group against the forward pass of the same block, for every architecture.
#include "lib/model/block_walk.h"

#include <gtest/gtest.h>

#include "tests/model/golden_block_helper.h"

namespace qwb {
namespace {

class Walks : public GoldenBlock {};

TEST_P(Walks, EndWhereTheForwardPassEnds) {
  const Block block = this->block();
  const RotaryTable rotary = this->rotary();
  KvCache cache = model_->new_cache(kBlockTokens);
  std::vector<float> forward = x_, walked = x_;
  block.forward(stream(forward), {kBlockTokens, rotary, cache.layer(1)});
  EXPECT_NE(forward, x_);
  BlockWalk walk(block, model_->executor(), {kBlockTokens, rotary, cache.layer(1)}, stream(walked));
  std::vector<std::string> modules;
  int64_t routed = 0;
  while (const InputGroup* group = walk.next()) {
    for (const LinearSpec& linear : group->readers) {
      modules.push_back(linear.module);
      EXPECT_EQ(linear.in, group->in());
    }
    EXPECT_EQ(walk.input().columns, group->in());
    if (group->expert < 0) {
      EXPECT_EQ(walk.input().rows, kBlockTokens);
    }
    if (group->expert >= 0 && group->readers.size() > 1) routed += walk.input().rows;
  }
  EXPECT_EQ(walked, forward);
  EXPECT_EQ(routed, kBlockTokens * model_->config().experts_used);
  std::vector<std::string> all;
  for (const LinearSpec& linear : block_linears(model_->spec().blocks[1]))
    all.push_back(linear.module);
  EXPECT_EQ(modules, all);
}

INSTANTIATE_TEST_SUITE_P(Architectures, Walks,
                         testing::Values("llama", "qwen3", "mixtral", "gemma2", "gpt2", "gemma3",
                                         "cohere"),
                         [](const auto& case_) { return case_.param; });
// As the others; under sanitizers those above will do.
INSTANTIATE_TEST_SUITE_P(SlowFamilies, Walks,
                         testing::Values("olmo2", "granite", "smollm3", "phi3", "starcoder2",
                                         "stablelm", "glm4", "cohere2", "gpt_neox", "gptj", "opt",
                                         "bloom", "falcon_7b", "falcon_40b", "falcon_11b", "mpt",
                                         "qwen2_moe", "qwen3_moe", "olmoe"),
                         [](const auto& case_) { return case_.param; });

}  // namespace
}  // namespace qwb
