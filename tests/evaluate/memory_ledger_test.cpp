// The ledger of a model at work against formulas and against what Linux counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/evaluate/memory.h"
#include "lib/evaluate/speed.h"
#include "lib/evaluate/subject.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using testing::demo;

// Bytes of the plain tensors of a source: matrices as they are stored, vectors as f32.
struct Stored {
  int64_t matrices = 0, vectors = 0, parameters = 0;
};
Stored stored(const TensorSource& source) {
  Stored sum;
  for (const std::string& name : source.names()) {
    const TensorView view = source.find(name).value();
    sum.parameters += view.count();
    (view.shape.size() > 1 ? sum.matrices : sum.vectors) +=
        view.shape.size() > 1 ? static_cast<int64_t>(view.bytes.size()) : 4 * view.count();
  }
  return sum;
}

TEST(SlowModelMemory, MappedWeightsAreTheTensorsBytes) {
  for (const char* name : {"llama", "gpt2"}) {
    const MemoryLedger before = memory_ledger();
    {
      const Subject subject = open_subject(demo(name), false);
      const Stored sum = stored(*subject.open.source);
      const WeightBytes& weights = subject.model->weight_bytes();
      EXPECT_EQ(weights.mapped, sum.matrices) << name;
      EXPECT_EQ(weights.vectors, sum.vectors) << name;
      EXPECT_EQ(weights.copied, 0) << name;
      EXPECT_EQ(weights.parameters, sum.parameters) << name;
      const MemoryLedger ledger = memory_ledger();
      EXPECT_EQ(ledger[MemoryKind::mapped_weights].now - before[MemoryKind::mapped_weights].now,
                sum.matrices);
      EXPECT_EQ(ledger[MemoryKind::weights].now - before[MemoryKind::weights].now, sum.vectors);
    }
    EXPECT_EQ(memory_ledger().allocated.now, before.allocated.now) << name;
  }
}

TEST(SlowModelMemory, QuantizedWeightsAreMappedToo) {
  const testing::Scratch scratch("ledger");
  testing::make_artifact(demo("gpt2"), "nf4", scratch.path() / "nf4", "");
  const Subject subject = open_subject(scratch.path() / "nf4", false);
  const Subject plain = open_subject(demo("gpt2"), false);
  const WeightBytes &nf4 = subject.model->weight_bytes(), &f32 = plain.model->weight_bytes();
  EXPECT_EQ(nf4.mapped + f32.vectors,
            subject.tensor_bytes);  // vectors are stored as f32 in this model
  EXPECT_EQ(nf4.copied, 0);
  EXPECT_LT(nf4.mapped, f32.mapped);
  EXPECT_EQ(nf4.parameters, f32.parameters);
}

TEST(SlowModelMemory, TheKvCacheIsTheFormula) {
  const Subject subject = open_subject(demo("llama"), false);
  const ModelConfig& c = subject.model->config();
  const int64_t before = memory_ledger()[MemoryKind::kv_cache].now;
  const KvCache cache = subject.model->new_cache(300);
  const int64_t formula = 2 * c.layers * 300 * c.kv_heads * c.head_dim * 4;
  EXPECT_EQ(memory_ledger()[MemoryKind::kv_cache].now - before, formula);
  EXPECT_EQ(cache.bytes(), formula);
  EXPECT_EQ(kv_cache_bytes(c, 300), formula);
}

// What one prefill holds at most, counted by hand: hidden states and logits of the runner, and in
// the block the residual stream, its norm, queries, the inner activations twice, and the rotary
// tables; and of every block whether its output was finite.
TEST(SlowModelMemory, ActivationsOfAPrefillAreTheSumOfItsBuffers) {
  const Subject subject = open_subject(demo("llama"), false);
  const ModelConfig& c = subject.model->config();
  reset_memory_ledger_peaks();
  const int64_t before = memory_ledger()[MemoryKind::activations].now;
  const int64_t tokens = 96;
  SpeedRunner(*subject.model, {tokens, 0, 0}).pass();
  const int64_t inner = std::max(c.intermediate, c.heads * c.head_dim);
  const int64_t per_token = c.hidden                                           // the result
                            + 2 * c.hidden + inner                             // x, h, inner
                            + c.head_dim                                       // cosines and sines
                            + std::max(c.heads * c.head_dim, c.intermediate);  // queries, then up
  EXPECT_EQ(memory_ledger()[MemoryKind::activations].peak - before,
            4 * (tokens * per_token + c.vocab + c.layers));
}

// Linux counts what was touched, in pages; we count what was asked for. They may differ by the
// pages at the ends of buffers, the heap's own needs, and the matrix library's private buffers and
// generated code: a few megabytes, however large the KV cache. A cache that were counted twice or
// not at all would differ by 60.
TEST(SlowModelMemory, TheLedgerAgreesWithLinux) {
  const Subject subject = open_subject(demo("gpt2"), false);
  SpeedRunner(*subject.model, {128, 0, 0}).pass();  // libraries load, threads start
  const int64_t anonymous = memory_use().anonymous, ledger = memory_ledger().allocated.now;
  const FloatBuffer large(15'000'000, MemoryKind::kv_cache);
  std::fill_n(large.data(), large.size(), 1.0f);
  SpeedRunner runner(*subject.model, {256, 0, 0});
  runner.pass();
  const int64_t system = memory_use().anonymous - anonymous;
  const int64_t ours = memory_ledger().allocated.now - ledger;
  EXPECT_GT(ours, 60'000'000);
  EXPECT_NEAR(static_cast<double>(system), static_cast<double>(ours), 12e6);
}

}  // namespace
}  // namespace qwb
