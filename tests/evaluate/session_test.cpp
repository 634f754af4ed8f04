// Speed, memory, records and whole evaluations.
#include "lib/evaluate/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "lib/base/error.h"
#include "tests/base/context_helper.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using testing::demo;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Memory, ReadsTheStatusOfAProcess) {
  const testing::Scratch scratch("memory");
  const Path file = scratch.path() / "status";
  std::ofstream(file)
      << "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\nRssAnon:\t 100 kB\nRssFile:\t 924 kB\n";
  const MemoryUse use = memory_use(file);
  EXPECT_EQ(use.peak, 2048 * 1024);
  EXPECT_EQ(use.resident, 1024 * 1024);
  EXPECT_EQ(use.anonymous, 100 * 1024);
  EXPECT_EQ(use.file, 924 * 1024);
  std::ofstream(file) << "VmHWM:\t    much kB\nVmRSS:\t 1024 kB\n";
  EXPECT_THROW(memory_use(file), Error);
  EXPECT_THROW(memory_use("/nonexistent"), Error);
}

TEST(Memory, ThePeakCanBeReset) {
  EXPECT_FALSE(reset_memory_peak("/nonexistent"));
  {
    const std::vector<char> large(300 << 20, 1);
    EXPECT_GT(memory_use().peak, 300 << 20);
    EXPECT_GT(memory_use().anonymous, 300 << 20);
    EXPECT_EQ(large[1000], 1);
  }
  if (!reset_memory_peak()) GTEST_SKIP() << "the system does not allow it";
  EXPECT_LT(memory_use().peak, 300 << 20);
}

TEST(Record, AbsentMeasurementsAreNull) {
  EvaluationRecord record;
  record.artifact = "a";
  const Json json = record_json(record);
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  EXPECT_THAT(keys, ElementsAre("schema", "artifact", "method", "int8_forward", "bits", "bpw",
                                "bytes", "perplexity", "divergence", "tasks", "speed", "memory",
                                "energy", "problems"));
  EXPECT_EQ(json["schema"], 2);
  for (const char* key :
       {"bits", "bpw", "perplexity", "divergence", "tasks", "speed", "memory", "energy"})
    EXPECT_TRUE(json[key].is_null()) << key;
  record.quality.perplexity = PerplexityResult{};
  record.quality.perplexity->value.value = NAN;
  const Json more = record_json(record);
  EXPECT_TRUE(more["perplexity"]["value"].is_null());
  EXPECT_TRUE(more["perplexity"]["ratio"].is_null());
}

// Remembers what was said.
struct Notes : Progress {
  std::string said;
  int tasks = 0;
  void begin(const std::string&, int64_t) override { ++tasks; }
  void note(const std::string& text) override { said += text + "\n"; }
};

EvaluationOptions few_windows() {
  EvaluationOptions options;
  options.quality.text = plain_text(read_text(demo("text/eval.txt")).substr(0, 20'000), "eval.txt");
  options.quality.protocol.context = 256;
  options.quality.protocol.max_windows = 4;
  return options;
}

TEST(SlowEvaluation, ComparesWithTheUnquantizedModelOnce) {
  const testing::Scratch scratch("evaluation");
  testing::make_artifact(demo("llama"), "nf4", scratch.path() / "nf4", demo("llama").string());
  testing::make_artifact(demo("llama"), "int8", scratch.path() / "int8", demo("llama").string());
  Notes notes;
  Evaluation evaluation(few_windows(), context_telling(notes));
  const EvaluationRecord nf4 = evaluation.run(scratch.path() / "nf4");
  EXPECT_EQ(notes.tasks, 2);  // the artifact and its source
  const EvaluationRecord int8 = evaluation.run(scratch.path() / "int8");
  const EvaluationRecord plain = evaluation.run(demo("llama"));
  EXPECT_EQ(notes.tasks, 4);
  EXPECT_EQ(nf4.method, "nf4");
  EXPECT_EQ(nf4.bits, 4);
  EXPECT_EQ(int8.bits, 8);
  EXPECT_EQ(plain.method, "none");
  EXPECT_EQ(plain.bits, 16);
  EXPECT_LT(nf4.bpw.value(), int8.bpw.value());
  EXPECT_LT(nf4.bytes, int8.bytes);
  EXPECT_FALSE(plain.quality.ratio);
  EXPECT_TRUE(plain.quality.is_baseline);
  EXPECT_NEAR(nf4.quality.ratio.value().ratio.value,
              nf4.quality.perplexity->value.value / plain.quality.perplexity->value.value, 1e-9);
  EXPECT_NEAR(int8.quality.ratio.value().ratio.value,
              int8.quality.perplexity->value.value / plain.quality.perplexity->value.value, 1e-9);
  EXPECT_GT(nf4.quality.ratio->ratio.value, 1.02);         // of the whole text: 1.05
  EXPECT_NEAR(int8.quality.ratio->ratio.value, 1, 0.005);  // of the whole text: 1.0001
  EXPECT_LT(nf4.quality.ratio->ratio.standard_error.value() / nf4.quality.ratio->ratio.value,
            nf4.quality.perplexity->value.standard_error.value() /
                nf4.quality.perplexity->value.value);  // pairing pays
  EXPECT_GT(nf4.memory["peak_bytes"], nf4.memory["weight_bytes"]);
  EXPECT_EQ(nf4.memory["kv_tokens"], 256);
}

// With --kl the original's perplexity is measured alone and that of others beside it: memory tells
// of neither then, but of the speed's work, which is the same.
TEST(SlowEvaluation, MemoryIsOfTheSameWorkForAll) {
  const testing::Scratch scratch("same_work");
  testing::make_artifact(demo("gpt2"), "nf4", scratch.path(), demo("gpt2").string());
  EvaluationOptions options = few_windows();
  options.quality.perplexity = options.quality.divergence = options.speed = true;
  options.speed_options.grid = {{32}, {2}, {}};
  options.speed_options.repetitions = 1;
  Notes notes;
  Evaluation evaluation(options, context_telling(notes));
  const Json plain = evaluation.run(demo("gpt2")).memory,
             nf4 = evaluation.run(scratch.path()).memory;
  for (const char* key : {"kv_tokens", "kv_bytes"}) EXPECT_EQ(plain[key], nf4[key]) << key;
  EXPECT_EQ(plain["kv_tokens"], 32);
  for (const char* kind : {"kv_cache", "activations"})
    EXPECT_EQ(plain["ledger"][kind]["peak"], nf4["ledger"][kind]["peak"]) << kind;
}

TEST(SlowEvaluation, SaysWhyThereIsNoRatio) {
  const testing::Scratch scratch("no_ratio");
  testing::make_artifact(demo("gpt2"), "int8", scratch.path() / "lost", "/nonexistent/model");
  testing::make_artifact(demo("gpt2"), "int8", scratch.path() / "unnamed", "");
  Notes notes;
  Evaluation evaluation(few_windows(), context_telling(notes));
  EXPECT_FALSE(evaluation.run(scratch.path() / "lost").quality.ratio);
  EXPECT_THAT(notes.said, HasSubstr("is not at /nonexistent/model"));
  EXPECT_FALSE(evaluation.run(scratch.path() / "unnamed").quality.ratio);
  EXPECT_THAT(notes.said, HasSubstr("is not named in qwb.json"));
  notes.said.clear();
  EvaluationOptions options = few_windows();
  options.quality.compare = false;
  EXPECT_FALSE(
      Evaluation(options, context_telling(notes)).run(scratch.path() / "lost").quality.ratio);
  EXPECT_EQ(notes.said, "");
}

TEST(SlowEvaluation, RefusesBadSettings) {
  EvaluationOptions options = few_windows();
  options.quality.protocol.protocol = "nonsense";
  EXPECT_THROW(Evaluation(options, Context()), Error);
  options = few_windows();
  options.speed_options.repetitions = 0;
  EXPECT_THROW(Evaluation(options, Context()), Error);
}

// A tokenizer of another model: its tokens are outside the vocabulary, or it is not there at all.
TEST(SlowEvaluation, TokenizerMustFitTheModel) {
  const testing::Scratch scratch("mismatch");
  const Path folder = scratch.path() / "model";
  const Path tiny = Path(QWB_SOURCE_DIR) / "tests/golden/model/gpt2";  // 96 tokens
  std::filesystem::create_directories(folder);
  for (const char* file : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(tiny / file, folder / file);
  Notes notes;
  try {
    Evaluation(few_windows(), context_telling(notes)).run(folder);
    FAIL() << "evaluated without a tokenizer";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::not_found);
  }
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy_file(demo("llama") / file, folder / file);
  try {
    EvaluationOptions options = few_windows();
    options.quality.protocol.context = 64;
    Evaluation(options, context_telling(notes)).run(folder);
    FAIL() << "evaluated with the wrong tokenizer";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("do not belong to this model"));
  }
}

}  // namespace
}  // namespace qwb
