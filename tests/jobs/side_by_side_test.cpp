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

// A backend that requests a stop in the middle of a forward pass: when attention is computed.
class StoppingBackend : public Backend {
 public:
  StoppingBackend(StopSource& stop, Threads threads)
      : Backend(threads), stop_(stop), fast_(make_backend(BackendKind::fast, threads)) {}
  std::string name() const override { return "stopping"; }
  void linear(const float* x, int64_t tokens, const Weight& weight, const float* bias, float* y,
              bool add) const override {
    fast_->linear(x, tokens, weight, bias, y, add);
  }
  void gather_rows(const Weight& weight, std::span<const int32_t> ids, float* out) const override {
    fast_->gather_rows(weight, ids, out);
  }
  void rms_norm(const float* x, int64_t rows, int64_t n, const float* gain, double eps,
                float* y) const override {
    fast_->rms_norm(x, rows, n, gain, eps, y);
  }
  void layer_norm(const float* x, int64_t rows, int64_t n, const float* gain, const float* bias,
                  double eps, float* y) const override {
    fast_->layer_norm(x, rows, n, gain, bias, eps, y);
  }
  void rotate(float* x, int64_t tokens, int64_t heads, int64_t head_dim, int64_t stride,
              const float* cosine, const float* sine) const override {
    fast_->rotate(x, tokens, heads, head_dim, stride, cosine, sine);
  }
  void attention(const float* queries, const float* keys, const float* values,
                 const AttentionShape& shape, float* out) const override {
    ++attentions;
    stop_.request();
    fast_->attention(queries, keys, values, shape, out);
  }
  void activate(Activation activation, float* gate, const float* up, int64_t count) const override {
    fast_->activate(activation, gate, up, count);
  }
  void add(float* x, const float* y, int64_t count) const override { fast_->add(x, y, count); }
  void soft_cap(float* x, int64_t count, float cap) const override {
    fast_->soft_cap(x, count, cap);
  }
  void losses(const float* x, int64_t rows, const Weight& weight, std::span<const int32_t> targets,
              float cap, double* losses) const override {
    fast_->losses(x, rows, weight, targets, cap, losses);
  }
  bool all_finite(const float* x, int64_t count) const override {
    return fast_->all_finite(x, count);
  }
  mutable std::atomic<int> attentions{0};

 private:
  StopSource& stop_;
  std::unique_ptr<Backend> fast_;
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

// A long prompt on that backend.
void complete(const Context& context, std::shared_ptr<const Backend> backend) {
  const LoadedModel loaded =
      load_model(testing::demo("llama"), {.backend = std::move(backend)}, context);
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

TEST(SideBySide, JobsGiveTheBitsOfJobsAlone) {
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

TEST(SideBySide, AStopInCalibrationEndsThatJobOnly) {
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

TEST(SideBySide, AStopInAPrefillEndsThatJobOnly) {
  const Json value = perplexity({});
  StopSource stop;
  const auto backend = std::make_shared<StoppingBackend>(stop, Threads(2));
  ErrorKind ended = ErrorKind::usage;
  Json other;
  {
    std::jthread stopped([&] {
      ended = kind_of([&] { complete({Threads(2), stop.token()}, backend); });
    });
    std::jthread whole([&] { other = perplexity({.threads = Threads(3)}); });
  }
  EXPECT_EQ(ended, ErrorKind::interrupted);
  EXPECT_EQ(backend->attentions, 1);  // of one block: the pass ended before the next
  EXPECT_EQ(other, value);
}

TEST(SideBySide, AStoppedEvaluationEndsAlone) {
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
TEST(SideBySide, AStoppedPassLeavesTheCacheAsItWas) {
  const OpenModel open = open_model(testing::demo("gpt2"));
  const auto model = Model::load(open.source, open.config, "gpt2");
  const std::vector<int32_t> tokens = {5, 9, 2, 44, 17};
  KvCache cache = model->new_cache(16), fresh = model->new_cache(16);
  std::vector<float> hidden(static_cast<size_t>(5 * model->config().hidden)), again = hidden;
  StopSource stop;
  stop.request();
  EXPECT_EQ(kind_of([&] { model->forward(tokens, cache, hidden.data(), stop.token()); }),
            ErrorKind::interrupted);
  EXPECT_EQ(cache.length(), 0);
  model->forward(tokens, cache, hidden.data());
  model->forward(tokens, fresh, again.data());
  EXPECT_EQ(hidden, again);
}

}  // namespace
}  // namespace qwb
