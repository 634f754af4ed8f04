// A walk from group to group against the forward pass of the same block, for every architecture.
#include <gtest/gtest.h>

#include <set>

#include "formats/registry.h"
#include "lib/base/file.h"
#include "lib/codec/dense.h"
#include "lib/model/block_walk.h"
#include "lib/model/model.h"

namespace qwb {
namespace {

constexpr int64_t kTokens = 23;

class Walks : public testing::TestWithParam<std::string> {
 protected:
  Walks() {
    const OpenModel open = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model" / GetParam());
    model_ = Model::load(open.source, open.config, GetParam());
    std::vector<int32_t> tokens(static_cast<size_t>(kTokens));
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 37 % 96);
    x_ = std::vector<float>(static_cast<size_t>(kTokens * model_->config().hidden));
    model_->embed(tokens, 0, stream(x_));
  }
  Block block() const {
    return Block(model_->config(), model_->spec().blocks[1], 1, model_->source(),
                 model_->executor());
  }

  Out stream(std::vector<float>& x) const { return {x.data(), kTokens, model_->config().hidden}; }
  RotaryTable rotary() const { return {model_->executor(), model_->config().rope, 0, kTokens}; }

  // Of experts that no token is sent to.
  std::set<std::string> modules_without_tokens(const Block& block) {
    std::set<std::string> names;
    const RotaryTable rotary = this->rotary();
    KvCache cache = model_->new_cache(kTokens);
    std::vector<float> x = x_;
    BlockWalk walk(block, model_->executor(), {kTokens, rotary, cache.layer(1)}, stream(x));
    while (const InputGroup* group = walk.next()) {
      for (const LinearSpec& linear : group->readers) {
        if (walk.input().rows == 0) names.insert(linear.module);
      }
    }
    return names;
  }

  std::unique_ptr<Model> model_;
  std::vector<float> x_;
};

TEST_P(Walks, EndWhereTheForwardPassEnds) {
  const Block block = this->block();
  const RotaryTable rotary = this->rotary();
  KvCache cache = model_->new_cache(kTokens);
  std::vector<float> forward = x_, walked = x_;
  block.forward(stream(forward), {kTokens, rotary, cache.layer(1)});
  EXPECT_NE(forward, x_);
  BlockWalk walk(block, model_->executor(), {kTokens, rotary, cache.layer(1)}, stream(walked));
  std::vector<std::string> modules;
  int64_t routed = 0;
  while (const InputGroup* group = walk.next()) {
    for (const LinearSpec& linear : group->readers) {
      modules.push_back(linear.module);
      EXPECT_EQ(linear.in, group->in());
    }
    EXPECT_EQ(walk.input().columns, group->in());
    if (group->expert < 0) {
      EXPECT_EQ(walk.input().rows, kTokens);
    }
    if (group->expert >= 0 && group->readers.size() > 1) routed += walk.input().rows;
  }
  EXPECT_EQ(walked, forward);
  EXPECT_EQ(routed, kTokens * model_->config().experts_used);
  std::vector<std::string> all;
  for (const LinearSpec& linear : block_linears(model_->spec().blocks[1]))
    all.push_back(linear.module);
  EXPECT_EQ(modules, all);
}

// What the readers make of a group's input is what the block makes of it: a module replaced by
// zeros changes the stream, one after the other.
TEST_P(Walks, EveryModuleMatters) {
  Block block = this->block();
  const RotaryTable rotary = this->rotary();
  KvCache cache = model_->new_cache(kTokens);
  std::vector<float> before = x_;
  block.forward(stream(before), {kTokens, rotary, cache.layer(1)});
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
    block.forward(stream(after), {kTokens, rotary, cache.layer(1)});
    EXPECT_EQ(after == before, unused.contains(linear.module)) << linear.module;
    block.set_weight(linear.module, kept);
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, Walks,
                         testing::Values("llama", "qwen3", "mixtral", "gemma2", "gpt2"),
                         [](const auto& case_) { return case_.param; });

}  // namespace
}  // namespace qwb
