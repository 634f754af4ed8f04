// Adapters beside a model against PEFT's logits in f32 (tests/golden/make_adapters.py), on both
// executors. Tolerance 1e-4 of the largest logit, as for models alone; the adapters move logits by
// 2 and more, and a wrong scale, pattern, order or module by far more than the tolerance.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/loaded_model.h"
#include "lib/adapt/attach.h"
#include "lib/adapt/merged_source.h"
#include "lib/adapt/use.h"
#include "lib/base/rng.h"
#include "tests/adapt/golden_adapter_helper.h"
#include "tests/exec/shadow_helper.h"

namespace qwb {
namespace {

class Unmerged : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(Unmerged, AgreesWithPeft) {
  const AdapterGolden golden(GetParam().first, GetParam().second);
  const Adapter adapter = golden.read();
  for (const ExecutorKind kind : {ExecutorKind::reference, ExecutorKind::fast}) {
    const auto model = golden.model(kind);
    const std::vector<float> plain = logits_of(*model, golden.tokens);
    attach(adapter, 1, *model);
    const std::vector<float> logits = logits_of(*model, golden.tokens);
    EXPECT_LE(largest_difference(logits, golden.logits), 1e-4f * largest(golden.logits));
    EXPECT_NEAR(largest_difference(logits, plain), golden.delta, 1e-3f * golden.delta);
    attach(adapter, -1, *model);  // takes away what the first one adds
    EXPECT_LE(largest_difference(logits_of(*model, golden.tokens), plain), 1e-4f * largest(plain));
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, Unmerged,
                         ::testing::Values(std::pair("llama", "llama"),
                                           std::pair("llama", "llama_patterns"),
                                           std::pair("qwen3", "qwen3"),
                                           std::pair("qwen3", "qwen3_layers"),
                                           std::pair("gpt2", "gpt2")),
                         [](const auto& which) { return which.param.second; });

// Factors of a rank at which the order of sums shows.
Adapter random_adapter(const std::vector<AdaptableModule>& modules, int64_t rank, double size) {
  Rng rng(7);
  Adapter adapter;
  for (const AdaptableModule& m : modules) {
    AdapterModule& made = adapter.modules.emplace_back(
        AdapterModule{.module = m.name, .rank = rank, .in = m.in, .out = m.out});
    for (int64_t i = 0; i < rank * m.in; ++i)
      made.a.push_back(static_cast<float>(rng.uniform() - 0.5));
    for (int64_t i = 0; i < rank * m.out; ++i)
      made.b.push_back(static_cast<float>(size * (rng.uniform() - 0.5)));
  }
  return adapter;
}
Adapter wide_adapter(const AdapterGolden& golden) {
  return random_adapter(golden.modules(), 40, 0.1);
}

// Every module of every kind: fused q, k and v, plain MLPs, routers, experts and those that all
// tokens see, a head with a bias. Merged in f32, only the order of sums differs.
TEST(UnmergedFamilies, AreTheMergedModels) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 40; ++i) tokens.push_back(i * 17 % 40);
  for (const std::string name : {"falcon_40b", "gptj", "qwen2_moe"}) {
    SCOPED_TRACE(name);
    const OpenModel base = open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model" / name);
    const auto load = [](const OpenModel& open) {
      return Model::load(open.source, open.config, "family",
                         make_executor(ExecutorKind::fast, Threads(2)));
    };
    const auto model = load(base);
    std::vector<AdaptableModule> modules = adaptable_modules(model->config(), model->spec());
    if (model->config().tied_embeddings) modules.pop_back();  // a tied head cannot be merged
    const Adapter adapter = random_adapter(modules, 2, 1);
    const std::vector<float> plain = logits_of(*model, tokens);
    attach(adapter, 1, *model);
    const std::vector<float> unmerged = logits_of(*model, tokens);
    const auto merged = load(merged_model(base, {{adapter, 1}}, MergedSource::Form::tensors));
    EXPECT_LE(largest_difference(unmerged, logits_of(*merged, tokens)), 2e-5f * largest(unmerged));
    EXPECT_GT(largest_difference(unmerged, plain), 0.1f * largest(plain));
  }
}

// The house's rules of bits: any number of threads, whatever stands beside a sequence.
TEST(UnmergedBits, DependOnNothingElse) {
  const AdapterGolden golden("llama", "llama");
  const Adapter adapter = wide_adapter(golden);
  const auto one = golden.model(ExecutorKind::fast, 1), many = golden.model(ExecutorKind::fast, 3);
  attach(adapter, 1, *one);
  attach(adapter, 1, *many);
  EXPECT_EQ(logits_of(*one, golden.tokens), logits_of(*many, golden.tokens));
  // Sequences of 1, 3 and 16 tokens in one step, and each alone.
  const int64_t counts[] = {1, 3, 16};
  const Matrix states = many->executor().allocate(20, many->config().hidden);
  std::vector<KvCache> caches;
  for (const int64_t count : counts) caches.push_back(many->new_cache(count));
  std::vector<Sequence> all;
  for (size_t i = 0; i < 3; ++i)
    all.push_back({std::span(golden.tokens).first(static_cast<size_t>(counts[i])), &caches[i]});
  many->forward(all, states);
  int64_t first = 0;
  for (const int64_t count : counts) {
    KvCache cache = many->new_cache(count);
    const Matrix own = many->executor().allocate(count, many->config().hidden);
    many->forward(std::span(golden.tokens).first(static_cast<size_t>(count)), cache, own);
    EXPECT_EQ(many->executor().download(states.view().row_range(first, count)),
              many->executor().download(own))
        << count;
    first += count;
  }
}

TEST(UnmergedBits, RunsOnMemoryThatFaults) {
  const AdapterGolden golden("gpt2", "gpt2");
  const Adapter adapter = golden.read();
  const auto model = golden.model();
  attach(adapter, 1, *model);
  const auto shadow =
      std::make_shared<ShadowExecutor>(make_executor(ExecutorKind::fast, Threads(2)));
  const auto other = Model::load(golden.base.source, golden.base.config, "golden", shadow);
  attach(adapter, 1, *other);
  const int64_t count = std::ssize(golden.tokens);
  KvCache cache = other->new_cache(count);
  const Matrix states = shadow->allocate(count, other->config().hidden);
  const Matrix logits = shadow->allocate(count, other->config().vocab);
  other->forward(golden.tokens, cache, states);
  other->logits(states, logits);
  EXPECT_EQ(shadow->download(logits), logits_of(*model, golden.tokens));
}

// An adapter of the output embedding reaches the logits, and the losses that are made without them.
TEST(UnmergedHead, LossesAreThoseOfTheLogits) {
  const AdapterGolden golden("llama", "llama");
  const auto model = golden.model();
  const ModelConfig& c = model->config();
  std::vector<float> a(static_cast<size_t>(c.hidden), 0.1f), b(static_cast<size_t>(c.vocab));
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 7) * 0.2f;
  model->attach("lm_head",
                std::make_shared<LowRank>(
                    model->executor(),
                    LowRank::Factors{.rank = 1, .in = c.hidden, .out = c.vocab, .a = a, .b = b}));
  const int64_t count = std::ssize(golden.tokens);
  KvCache cache = model->new_cache(count);
  const Matrix states = model->executor().allocate(count, c.hidden);
  model->forward(golden.tokens, cache, states);
  std::vector<double> losses(golden.tokens.size());
  model->token_losses(states, golden.tokens, losses);
  const Matrix logits = model->executor().allocate(count, c.vocab);
  model->logits(states, logits);
  const std::vector<float> rows = model->executor().download(logits);
  for (int64_t r = 0; r < count; ++r) {
    double sum = 0;
    for (int64_t v = 0; v < c.vocab; ++v)
      sum += std::exp(static_cast<double>(rows[r * c.vocab + v]));
    const double logit = rows[r * c.vocab + golden.tokens[r]];
    EXPECT_NEAR(losses[r], std::log(sum) - logit, 1e-5);
  }
  EXPECT_GT(largest_difference(rows, logits_of(*golden.model(), golden.tokens)), 0.1f);
}

TEST(UnmergedUse, IsTold) {
  const AdapterGolden golden("llama", "llama");
  const LoadedModel loaded = load_model(
      golden.base, {.tokenizer = false, .attach = adapters_to_attach({{golden.folder, 0.5}})}, {});
  ASSERT_EQ(loaded.additions.size(), 1U);
  EXPECT_EQ(loaded.additions[0]["hash"], content_hash(golden.read()));
  EXPECT_EQ(loaded.additions[0]["scale"], 0.5);
  const auto plain = golden.model();
  const float whole = golden.delta;
  EXPECT_GT(
      largest_difference(logits_of(*loaded.model, golden.tokens), logits_of(*plain, golden.tokens)),
      0.1f * whole);
}

}  // namespace
}  // namespace qwb
