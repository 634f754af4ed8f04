// Every architecture on the GPU: the processor's logits and losses, and in a batch the bits that a
// sequence has alone.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "formats/registry.h"
#include "lib/base/file.h"
#include "lib/model/generate.h"
#include "lib/model/model.h"
#include "tests/exec/gpu_helper.h"
#include "tests/exec/near_helper.h"

namespace qwb {
namespace {

std::vector<int32_t> tokens_of(int64_t count, int64_t step) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(i * step % 96));
  return tokens;
}

class GpuModels : public GpuTest {
 protected:
  static std::unique_ptr<Model> load(const std::string& name,
                                     std::shared_ptr<const Executor> executor) {
    const OpenModel open = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model" / name);
    return Model::load(open.source, open.config, name, std::move(executor));
  }
};

// Logits of a text in two pieces, its losses, and of the tokens after it one by one.
std::vector<float> outputs_of(const Model& model, const std::vector<int32_t>& tokens) {
  const Executor& executor = model.executor();
  KvCache cache = model.new_cache(64);
  const Matrix hidden = executor.allocate(14, model.config().hidden);
  const Matrix logits = executor.allocate(14, model.config().vocab);
  model.forward(std::span(tokens).first(9), cache, hidden.view().row_range(0, 9));
  model.forward(std::span(tokens).subspan(9, 14), cache, hidden);
  model.logits(hidden, logits);
  std::vector<float> all = executor.download(logits);
  std::vector<double> losses(14);
  model.token_losses(hidden, std::span(tokens).subspan(10, 14), losses);
  all.insert(all.end(), losses.begin(), losses.end());
  for (size_t i = 23; i < tokens.size(); ++i) {
    const Out row = hidden.view().row_range(0, 1), one = logits.view().row_range(0, 1);
    model.forward(std::span(tokens).subspan(i, 1), cache, row);
    model.logits(row, one);
    const std::vector<float> values = executor.download(one);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

TEST_F(GpuModels, HaveTheProcessorsOutputs) {
  const std::vector<int32_t> tokens = tokens_of(27, 37);
  for (const char* name : {"llama_llama3", "qwen2", "qwen3", "mixtral", "gemma2", "gpt2", "gemma3",
                           "cohere", "olmo2", "granite", "phi3", "mistral"}) {
    SCOPED_TRACE(name);
    const auto here = load(name, make_executor(ExecutorKind::fast, Threads(2))),
               there = load(name, gpu());
    const std::vector<float> found = outputs_of(*there, tokens);
    expect_near(found, outputs_of(*here, tokens), 1e-4);
    EXPECT_EQ(outputs_of(*there, tokens), found) << "another run";
  }
}

TEST_F(GpuModels, SequencesInABatchKeepTheirBits) {
  for (const char* name : {"llama_llama3", "mixtral", "gemma3"}) {
    SCOPED_TRACE(name);
    const auto model = load(name, gpu());
    const auto run = [&](const std::vector<std::vector<int32_t>>& texts) {
      std::vector<KvCache> caches;
      std::vector<Sequence> sequences;
      int64_t rows = 0;
      for (const auto& text : texts) {
        caches.push_back(model->new_cache(64));
        rows += std::ssize(text);
      }
      for (size_t i = 0; i < texts.size(); ++i) sequences.push_back({texts[i], &caches[i]});
      const Matrix hidden = gpu()->allocate(rows, model->config().hidden);
      for (const auto& error : model->forward(sequences, hidden)) EXPECT_FALSE(error.has_value());
      return gpu()->download(hidden);
    };
    const std::vector<std::vector<int32_t>> texts = {tokens_of(1, 5), tokens_of(30, 11),
                                                     tokens_of(3, 7), tokens_of(1, 3)};
    std::vector<float> alone;
    for (const auto& text : texts) {
      const std::vector<float> own = run({text});
      alone.insert(alone.end(), own.begin(), own.end());
    }
    EXPECT_EQ(run(texts), alone);
  }
}

}  // namespace
}  // namespace qwb
