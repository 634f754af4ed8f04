// Blocks of every architecture: their modules, one by one, and what can be put in their place.
#include "lib/model/block.h"

#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/codec/dense.h"
#include "tests/model/golden_block_helper.h"

namespace qwb {
namespace {

class Blocks : public GoldenBlock {};

// What the readers make of a group's input is what the block makes of it: a module replaced by
// zeros changes the stream, one after the other.
TEST_P(Blocks, EveryModuleMatters) {
  Block block = this->block();
  const RotaryTable rotary = this->rotary();
  KvCache cache = model_->new_cache(kBlockTokens);
  std::vector<float> before = x_;
  block.forward(stream(before), {kBlockTokens, rotary, cache.layer(1)});
  const std::set<std::string> unused = modules_without_tokens(block);
  EXPECT_LT(unused.size(), block_linears(model_->spec().blocks[1]).size() / 2);
  for (const LinearSpec& linear : block_linears(model_->spec().blocks[1])) {
    const Weight kept = block.weight(linear.module);
    const Tensor zeros(DType::f32, linear.orientation == Orientation::out_in
                                       ? Shape{linear.out, linear.in}
                                       : Shape{linear.in, linear.out});
    std::fill_n(zeros.data<float>(), zeros.count(), 0.0f);
    block.set_weight(linear.module,
                     {linear.out, linear.in, linear.orientation, DenseWeight{zeros.view()}});
    std::vector<float> after = x_;
    block.forward(stream(after), {kBlockTokens, rotary, cache.layer(1)});
    EXPECT_EQ(after == before, unused.contains(linear.module)) << linear.module;
    block.set_weight(linear.module, kept);
  }
}

// A norm changes the stream, and its own values bring it back.
TEST_P(Blocks, NormsAreReplaced) {
  Block block = this->block();
  const RotaryTable rotary = this->rotary();
  KvCache cache = model_->new_cache(kBlockTokens);
  const auto passed = [&] {
    std::vector<float> x = x_;
    block.forward(stream(x), {kBlockTokens, rotary, cache.layer(1)});
    return x;
  };
  const std::vector<float> before = passed();
  const SublayerSpec& last = model_->spec().blocks[1].sublayers.back();
  const NormSpec norm = last.before.empty() ? last.after : last.before;
  const auto values = [&](const char* ending) {
    return find_vector(model_->source(), norm.module + ending, model_->config().hidden);
  };
  const std::vector<float> gain = values(".weight"),
                           bias = norm.has_bias() ? values(".bias") : std::vector<float>();
  std::vector<float> other = gain;
  for (float& value : other) value += 0.5f;
  block.set_norm(norm.module, other, bias);
  EXPECT_NE(passed(), before);
  block.set_norm(norm.module, gain, bias);
  EXPECT_EQ(passed(), before);
  EXPECT_THROW(block.set_norm(norm.module, {1, 2}, bias), Error);
}

INSTANTIATE_TEST_SUITE_P(Architectures, Blocks,
                         testing::Values("llama", "qwen3", "mixtral", "gemma2", "gpt2", "gemma3",
                                         "cohere"),
                         [](const auto& case_) { return case_.param; });
// As the others; under sanitizers those above will do.
INSTANTIATE_TEST_SUITE_P(SlowFamilies, Blocks,
                         testing::Values("olmo2", "granite", "smollm3", "phi3", "starcoder2",
                                         "stablelm", "glm4", "cohere2", "gpt_neox", "gptj", "opt",
                                         "bloom", "falcon_7b", "falcon_40b", "falcon_11b", "mpt",
                                         "qwen2_moe", "qwen3_moe", "olmoe"),
                         [](const auto& case_) { return case_.param; });

}  // namespace
}  // namespace qwb
