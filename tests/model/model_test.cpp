// Logits against transformers in f32 (tests/golden/make_model.py), for every architecture, on both
// executors. Tolerance: 1e-4 of the largest logit. f32 sums over at most 300 terms through two
// blocks stay below 2e-6 of it here; a wrong mask, rotation, norm or bias moves logits by 1e-2 and
// more.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "formats/registry.h"
#include "formats/safetensors/safetensors.h"
#include "lib/base/file.h"
#include "lib/base/parallel.h"
#include "lib/model/model.h"

namespace qwb {
namespace {

struct Golden {
  OpenModel open;
  std::vector<int32_t> tokens;
  std::unique_ptr<SafetensorsFile> expected;

  explicit Golden(const std::string& name) {
    const Path folder = Path(QWB_SOURCE_DIR) / "tests/golden/model" / name;
    open = open_model(folder);
    expected =
        std::make_unique<SafetensorsFile>(SafetensorsFile::open(folder / "expected.safetensors"));
    const TensorView ids = *expected->find("tokens");
    for (int64_t i = 0; i < ids.count(); ++i)
      tokens.push_back(load<int32_t>(ids.bytes.data() + 4 * i));
  }
};

std::vector<float> run(const Model& model, std::span<const int32_t> tokens, KvCache& cache) {
  const auto count = static_cast<int64_t>(tokens.size());
  std::vector<float> hidden(static_cast<size_t>(count * model.config().hidden));
  std::vector<float> logits(static_cast<size_t>(count * model.config().vocab));
  const Out states(hidden.data(), count, model.config().hidden);
  model.forward(tokens, cache, states);
  model.logits(states, Out(logits.data(), count, model.config().vocab));
  return logits;
}

// Of the last rows, where the golden has only these.
std::vector<float> last_of(const std::vector<float>& logits, size_t count) {
  return {logits.end() - static_cast<std::ptrdiff_t>(count), logits.end()};
}

void expect_close(const std::vector<float>& logits, const std::vector<float>& expected,
                  double tolerance) {
  ASSERT_EQ(logits.size(), expected.size());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    difference = std::max(
        difference, std::abs(static_cast<double>(logits[i]) - static_cast<double>(expected[i])));
  }
  EXPECT_LE(difference, tolerance * largest) << "largest logit " << largest;
}

class Logits : public testing::TestWithParam<std::string> {};

TEST_P(Logits, AgreeWithTransformers) {
  const Golden golden(GetParam());
  for (const ExecutorKind kind : {ExecutorKind::reference, ExecutorKind::fast}) {
    const auto model = Model::load(golden.open.source, golden.open.config, GetParam(),
                                   make_executor(kind, Threads()));
    for (const std::string length : {"1", "17", "full"}) {
      const std::vector<float> expected =
          read_floats(*golden.expected->find("logits_" + length), length);
      const size_t count = length == "1" ? 1 : length == "17" ? 17 : golden.tokens.size();
      KvCache cache = model->new_cache(static_cast<int64_t>(count));
      SCOPED_TRACE(model->executor().identity() + " at " + length);
      const auto logits = run(*model, std::span(golden.tokens).first(count), cache);
      expect_close(last_of(logits, expected.size()), expected, 1e-4);
    }
  }
}

// The same logits whether the tokens come at once, one by one or in uneven pieces: the KV cache,
// positions and windows continue.
TEST_P(Logits, ContinueFromTheCache) {
  const Golden golden(GetParam());
  const std::vector<float> expected = read_floats(*golden.expected->find("logits_full"), "full");
  const auto model = Model::load(golden.open.source, golden.open.config, GetParam());
  const size_t count = golden.tokens.size();
  for (const std::vector<size_t>& pieces :
       {std::vector<size_t>(count, 1), std::vector<size_t>{1, 7, 30, 2, 60, count - 100}}) {
    KvCache cache = model->new_cache(std::ssize(golden.tokens));
    std::vector<float> logits;
    size_t at = 0;
    for (const size_t piece : pieces) {
      const auto part = run(*model, std::span(golden.tokens).subspan(at, piece), cache);
      logits.insert(logits.end(), part.begin(), part.end());
      at += piece;
    }
    expect_close(last_of(logits, expected.size()), expected, 1e-4);
  }
}

TEST_P(Logits, DoNotDependOnThreads) {
  const Golden golden(GetParam());
  std::vector<std::vector<float>> results;
  for (const int count : {1, 2, 7}) {
    const auto model = Model::load(golden.open.source, golden.open.config, GetParam(),
                                   make_executor(ExecutorKind::fast, Threads(count)));
    KvCache cache = model->new_cache(std::ssize(golden.tokens));
    results.push_back(run(*model, golden.tokens, cache));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST_P(Logits, LossesAreThoseOfTheLogits) {
  const Golden golden(GetParam());
  const auto model = Model::load(golden.open.source, golden.open.config, GetParam());
  const int64_t count = std::ssize(golden.tokens);
  KvCache cache = model->new_cache(count);
  std::vector<float> hidden(static_cast<size_t>(count * model->config().hidden));
  const Out states(hidden.data(), count, model->config().hidden);
  model->forward(golden.tokens, cache, states);
  const std::vector<float> logits = read_floats(*golden.expected->find("logits_full"), "full");
  const auto vocab = static_cast<size_t>(model->config().vocab);
  const size_t rows = logits.size() / vocab, first = golden.tokens.size() - rows;
  std::vector<double> losses(rows - 1);
  const std::span<const int32_t> targets = std::span(golden.tokens).subspan(first + 1);
  model->token_losses(In(states).row_range(static_cast<int64_t>(first), std::ssize(losses)),
                      targets, losses);
  for (size_t r = 0; r + 1 < rows; ++r) {
    double sum = 0;
    for (size_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[r * vocab + v]));
    EXPECT_NEAR(
        losses[r],
        std::log(sum) - static_cast<double>(logits[r * vocab + static_cast<size_t>(targets[r])]),
        1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, Logits,
                         testing::Values("llama", "llama_tied_head_dim", "llama_linear",
                                         "llama_llama3", "llama_yarn", "mistral", "qwen2", "qwen3",
                                         "mixtral", "gemma2", "gpt2", "gpt2_scaled", "gemma3",
                                         "cohere"),
                         [](const auto& case_) { return case_.param; });
// As the others; under sanitizers those above will do.
INSTANTIATE_TEST_SUITE_P(SlowFamilies, Logits,
                         testing::Values("olmo2", "granite", "smollm3", "phi3", "phi3_longrope",
                                         "starcoder2", "stablelm", "glm4", "cohere2", "gpt_neox",
                                         "gpt_neox_serial", "gptj", "opt", "bloom", "falcon_7b",
                                         "falcon_40b", "falcon_11b", "mpt", "qwen2_moe",
                                         "qwen3_moe", "olmoe"),
                         [](const auto& case_) { return case_.param; });

// transformers would take other frequencies for all of the text.
TEST(Longrope, TextsBeyondTheTrainedLengthAreRefused) {
  const Golden golden("phi3_longrope");
  const auto model = Model::load(golden.open.source, golden.open.config, "phi3");
  KvCache cache = model->new_cache(600);
  std::vector<int32_t> tokens(512, 7);
  run(*model, tokens, cache);
  const auto refused = [&](int64_t count) {
    try {
      run(*model, std::span(tokens).first(static_cast<size_t>(count)), cache);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::unsupported;
    }
    return false;
  };
  EXPECT_TRUE(refused(1));
  EXPECT_EQ(cache.length(), 512);
  cache.truncate(500);
  EXPECT_TRUE(refused(13));
  EXPECT_FALSE(refused(12));
  EXPECT_NO_THROW(model->check_length(512));
  EXPECT_THROW(model->check_length(513), Error);
}

}  // namespace
}  // namespace qwb
