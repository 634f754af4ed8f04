// Jobs of one process beside each other: each has its own threads, its own stop and its own
// progress, and gives the bits and figures of a job alone.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "formats/loaded_model.h"
#include "lib/base/context.h"
#include "lib/base/error.h"
#include "lib/jobs/evaluate_job.h"
#include "lib/jobs/quantize_job.h"
#include "lib/model/generate.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/exec/shadow_helper.h"

namespace qwb {
namespace {

// Requests a stop when the task that it is told of begins or has advanced.
struct StoppingProgress : Progress {
  explicit StoppingProgress(StopSource& source) : stop(source) {}
  void advance(int64_t /*units*/, const std::string& /*detail*/) override {
    ++advances;
    stop.request();
  }
  StopSource& stop;
  std::atomic<int> advances{0};
};

// Makes an artifact in a cache of its own; returns the hash of what it computes.
std::string quantized(const Path& cache, const Context& context) {
  const QuantizeRequest request{
      .model = testing::demo("gpt2"),
      .plan = {.method = &find_method("gptq"), .given = {{"group_size", 64}, {"refine", "codes"}}},
      .calibration = {
          .sources = {{testing::demo("text/calib.jsonl").string()}}, .samples = 6, .length = 48}};
  const CachedArtifact made =
      quantize(request, Store({.root = cache, .context = context}), {}, context);
  EXPECT_FALSE(made.cached);
  return open_model(made.folder).content_hash();
}

Json perplexity(const Context& context) {
  EvaluateRequest request{.text = testing::demo("text/eval.txt").string(), .keep = false};
  request.options.quality.protocol = {"windows", 256, 0, 3};
  request.options.quality.compare = false;
  EvaluateJob job(request, context);
  return perplexity_to_json(
      job.run(testing::demo("llama").string()).record.quality.perplexity.value());
}

// A long prompt on that executor.
void complete(const Context& context, std::shared_ptr<const Executor> executor) {
  const LoadedModel loaded =
      load_model(testing::demo("llama"), {.executor = std::move(executor)}, context);
  KvCache cache = loaded.model->new_cache(300);
  GenerationSettings settings;
  settings.eos = loaded.end_tokens();
  generate(
      *loaded.model, std::vector<int32_t>(256, 7), settings, cache, [](int32_t) { return true; },
      context.stop);
}

ErrorKind kind_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::usage;
}

TEST(SlowSideBySide, JobsGiveTheBitsOfJobsAlone) {
  const testing::Scratch scratch("side-by-side");
  const std::string hash = quantized(scratch.path() / "alone", {.threads = Threads(2)});
  const Json value = perplexity({.threads = Threads(2)});
  std::string hashes[2];
  Json values[2];
  {
    std::vector<std::jthread> jobs;
    for (const int i : {0, 1}) {
      const Context context{.threads = Threads(1 + 2 * i)};
      const Path cache = scratch.path() / std::to_string(i);
      jobs.emplace_back([&, i, context, cache] { hashes[i] = quantized(cache, context); });
      jobs.emplace_back([&, i, context] { values[i] = perplexity(context); });
    }
  }
  for (const int i : {0, 1}) {
    EXPECT_EQ(hashes[i], hash);
    EXPECT_EQ(values[i], value);
  }
}

TEST(SlowSideBySide, AStopInCalibrationEndsThatJobOnly) {
  const testing::Scratch scratch("stop-calibration");
  const std::string hash = quantized(scratch.path() / "alone", {});
  StopSource stop;
  StoppingProgress progress(stop);
  ErrorKind ended = ErrorKind::usage;
  std::string other;
  {
    std::jthread stopped([&] {
      ended = kind_of([&] {
        quantized(scratch.path() / "stopped", {Threads(3), stop.token(), &progress});
      });
    });
    std::jthread whole(
        [&] { other = quantized(scratch.path() / "whole", {.threads = Threads(2)}); });
  }
  EXPECT_EQ(ended, ErrorKind::interrupted);
  EXPECT_EQ(progress.advances, 1);  // the next step did not even begin
  EXPECT_TRUE(Store({.root = scratch.path() / "stopped"}).list().empty());
  EXPECT_EQ(other, hash);
}

TEST(SlowSideBySide, AStopInAPrefillEndsThatJobOnly) {
  const Json value = perplexity({});
  StopSource stop;
  std::atomic<int> attentions{0};
  // Requests the stop in the middle of a forward pass: when attention is computed.
  const auto executor = std::make_shared<ShadowExecutor>(
      make_executor(ExecutorKind::fast, Threads(2)), [&](const std::string& operation) {
        if (operation == "attention") ++attentions, stop.request();
      });
  ErrorKind ended = ErrorKind::usage;
  Json other;
  {
    std::jthread stopped([&] {
      ended = kind_of([&] { complete({Threads(2), stop.token()}, executor); });
    });
    std::jthread whole([&] { other = perplexity({.threads = Threads(3)}); });
  }
  EXPECT_EQ(ended, ErrorKind::interrupted);
  EXPECT_EQ(attentions, 1);  // of one block: the pass ended before the next
  EXPECT_EQ(other, value);
}

TEST(SlowSideBySide, AStoppedEvaluationEndsAlone) {
  const Json value = perplexity({});
  StopSource stop;
  StoppingProgress progress(stop);
  ErrorKind ended = ErrorKind::usage;
  Json other;
  {
    std::jthread stopped([&] {
      ended = kind_of([&] { perplexity({Threads(2), stop.token(), &progress}); });
    });
    std::jthread whole([&] { other = perplexity({.threads = Threads(1)}); });
  }
  EXPECT_EQ(ended, ErrorKind::interrupted);
  EXPECT_EQ(progress.advances, 1);
  EXPECT_EQ(other, value);
}

// A stopped sequence goes on as if nothing had been asked of it.
TEST(SlowSideBySide, AStoppedPassLeavesTheCacheAsItWas) {
  const OpenModel open = open_model(testing::demo("gpt2"));
  const auto model = Model::load(open.source, open.config, "gpt2");
  const std::vector<int32_t> tokens = {5, 9, 2, 44, 17};
  KvCache cache = model->new_cache(16), fresh = model->new_cache(16);
  std::vector<float> hidden(static_cast<size_t>(5 * model->config().hidden)), again = hidden;
  const Out first(hidden.data(), 5, model->config().hidden),
      second(again.data(), 5, model->config().hidden);
  StopSource stop;
  stop.request();
  EXPECT_EQ(kind_of([&] { model->forward(tokens, cache, first, stop.token()); }),
            ErrorKind::interrupted);
  EXPECT_EQ(cache.length(), 0);
  model->forward(tokens, cache, first);
  model->forward(tokens, fresh, second);
  EXPECT_EQ(hidden, again);
}

}  // namespace
}  // namespace qwb
