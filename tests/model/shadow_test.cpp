// Every architecture on a device whose memory faults outside of operations (shadow_helper.h): the
// processor's bits, at once, in pieces and walked.
#include <gtest/gtest.h>

#include <cstring>

#include "formats/registry.h"
#include "lib/base/file.h"
#include "lib/model/block_walk.h"
#include "lib/model/generate.h"
#include "lib/model/model.h"
#include "tests/exec/shadow_helper.h"

namespace qwb {
namespace {

std::shared_ptr<const Executor> shadow_of(ExecutorKind kind) {
  return std::make_shared<ShadowExecutor>(make_executor(kind, Threads(2)));
}

class OnTheShadow : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Model> model(std::shared_ptr<const Executor> executor) const {
    const OpenModel open = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model" / GetParam());
    return Model::load(open.source, open.config, GetParam(), std::move(executor));
  }
};

std::vector<int32_t> some_tokens(int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(i * 37 % 40));
  return tokens;
}

// Logits of a prompt in two pieces and losses, and the tokens of a generation.
std::vector<double> results(const Model& model) {
  const Executor& executor = model.executor();
  const std::vector<int32_t> tokens = some_tokens(23), targets = some_tokens(14);
  KvCache cache = model.new_cache(64);
  const Matrix hidden = executor.allocate(14, model.config().hidden);
  const Matrix logits = executor.allocate(14, model.config().vocab);
  model.forward(std::span(tokens).first(9), cache, hidden.view().row_range(0, 9));
  model.forward(std::span(tokens).subspan(9), cache, hidden);
  model.logits(hidden, logits);
  std::vector<double> all(14);
  model.token_losses(hidden, targets, all);
  const std::vector<float> values = executor.download(logits);
  all.insert(all.end(), values.begin(), values.end());
  GenerationSettings settings;
  settings.max_tokens = 8;
  settings.sampling = {.temperature = 0.9, .top_p = 0.8, .repetition_penalty = 1.1, .seed = 3};
  KvCache fresh = model.new_cache(64);
  generate(model, tokens, settings, fresh, [&](int32_t token) {
    all.push_back(token);
    return true;
  });
  return all;
}

TEST_P(OnTheShadow, ModelsRunWithTheProcessorsBits) {
  for (const ExecutorKind kind :
       {ExecutorKind::reference, ExecutorKind::fast, ExecutorKind::bf16}) {
    const auto on_host = model(make_executor(kind, Threads(2))), there = model(shadow_of(kind));
    EXPECT_EQ(results(*there), results(*on_host));
  }
}

TEST_P(OnTheShadow, BlocksAreWalked) {
  const std::vector<int32_t> tokens = some_tokens(23);
  const auto walked = [&](const Model& model) {
    const Executor& executor = model.executor();
    Block block(model.config(), model.spec().blocks[1], 1, model.source(), executor);
    const RotaryTable rotary(executor, model.config().rope, 0, 23);
    KvCache cache = model.new_cache(23);
    const Matrix x = executor.allocate(23, model.config().hidden);
    model.embed(tokens, 0, x);
    BlockWalk walk(block, executor, {23, rotary, cache.layer(1)}, x);
    std::vector<float> all;
    while (walk.next() != nullptr) {
      const std::vector<float> input = executor.download(walk.input());
      all.insert(all.end(), input.begin(), input.end());
    }
    const std::vector<float> left = executor.download(x);
    all.insert(all.end(), left.begin(), left.end());
    return all;
  };
  EXPECT_EQ(walked(*model(shadow_of(ExecutorKind::fast))),
            walked(*model(make_executor(ExecutorKind::fast, Threads(2)))));
}

INSTANTIATE_TEST_SUITE_P(Architectures, OnTheShadow,
                         testing::Values("llama_llama3", "qwen2", "qwen3", "mixtral", "gemma2",
                                         "gpt2", "gemma3", "cohere"),
                         [](const auto& case_) { return case_.param; });
// As the others; under sanitizers those above will do.
INSTANTIATE_TEST_SUITE_P(SlowFamilies, OnTheShadow,
                         testing::Values("olmo2", "granite", "phi3", "gptj", "bloom", "qwen2_moe"),
                         [](const auto& case_) { return case_.param; });

// What the tests above rest on.
TEST(ShadowDevice, FaultsWhenAnythingButAnOperationTouchesIt) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto executor = shadow_of(ExecutorKind::fast);
  const Matrix x = executor->allocate(3, 5);
  executor->fill(x, 2);
  EXPECT_EQ(executor->download(x), std::vector<float>(15, 2.0f));
  EXPECT_DEATH(EXPECT_EQ(*static_cast<volatile float*>(x.view().data), 2.0f), "");
  EXPECT_DEATH(std::memset(x.view().data, 1, 4), "");
  const Matrix on_host(3, 5, MemoryKind::activations);
  EXPECT_THROW(executor->add(x, on_host), std::logic_error);
  const auto cpu = make_executor(ExecutorKind::fast, Threads(1));
  EXPECT_THROW(cpu->add(on_host, x), std::logic_error);
}

}  // namespace
}  // namespace qwb
