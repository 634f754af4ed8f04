// Runs of one process beside each other: each has its own threads, its own stop and its own
// progress, and gives the bits and figures of a run alone.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "lib/base/context.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/evaluate/perplexity.h"
#include "lib/evaluate/subject.h"
#include "lib/evaluate/text.h"
#include "lib/quantize/pipeline.h"
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

// Hashes what it is given, in order.
struct HashingSink : ModuleSink {
  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& /*report*/) override {
    all.field(module.info.name);
    for (const auto& [name, part] : tensor.parts) all.bytes(part.view().bytes);
    ++modules;
  }
  void replace(const std::string& tensor, const TensorView& values) override {
    all.field(tensor).bytes(values.bytes);
  }
  Hasher all;
  int modules = 0;
};

CalibrationSet demo_windows(int64_t vocab) {
  CalibrationSet set;
  set.length = 48;
  for (int64_t w = 0; w < 6; ++w) {
    set.windows.emplace_back();
    for (int64_t t = 0; t < set.length; ++t)
      set.windows.back().push_back(static_cast<int32_t>((w * 131 + t * t * 7 + 3) % vocab));
  }
  return set;
}

// The hash of all modules; `modules` counts those that were finished.
std::string quantized(const Context& context, int* modules = nullptr) {
  const OpenModel open = open_model(testing::demo("gpt2"), context);
  const auto model = Model::load(open.source, open.config, "gpt2",
                                 make_backend(calibration_backend(), context.threads));
  const Method& gptq = find_method("gptq");
  const Plan plan =
      plan_modules(*model, gptq, resolve_settings(gptq, {{"group_size", 64}, {"refine", "codes"}}));
  const CalibrationSet set = demo_windows(model->config().vocab);
  HashingSink sink;
  try {
    quantize_model(*model, plan, &set, sink, context);
  } catch (...) {
    if (modules != nullptr) *modules = sink.modules;
    throw;
  }
  if (modules != nullptr) *modules = sink.modules;
  return sink.all.hex();
}

Json perplexity(const Context& context, std::shared_ptr<const Backend> backend = nullptr) {
  const Subject subject = open_subject(testing::demo("llama"), true, context, std::move(backend));
  const EvaluationText text = read_evaluation_text(testing::demo("text/eval.txt"));
  const TokenPlan plan =
      make_plan({"windows", 256, 0, 3}, subject.model->config(), *subject.tokenizer, text);
  return perplexity_to_json(measure_perplexity(*subject.model, plan, context));
}

ErrorKind kind_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::usage;
}

TEST(SideBySide, RunsGiveTheBitsOfRunsAlone) {
  const std::string hash = quantized({.threads = Threads(2)});
  const Json value = perplexity({.threads = Threads(2)});
  std::string hashes[2];
  Json values[2];
  {
    std::vector<std::jthread> runs;
    for (const int i : {0, 1}) {
      const Context context{.threads = Threads(1 + 2 * i)};
      runs.emplace_back([&, i, context] { hashes[i] = quantized(context); });
      runs.emplace_back([&, i, context] { values[i] = perplexity(context); });
    }
  }
  for (const int i : {0, 1}) {
    EXPECT_EQ(hashes[i], hash);
    EXPECT_EQ(values[i], value);
  }
}

TEST(SideBySide, AStopInCalibrationEndsThatRunOnly) {
  const std::string hash = quantized({});
  StopSource stop;
  StoppingProgress progress(stop);
  ErrorKind ended = ErrorKind::usage;
  int modules = 0;
  std::string other;
  {
    std::jthread stopped([&] {
      ended = kind_of([&] { quantized({Threads(3), stop.token(), &progress}, &modules); });
    });
    std::jthread whole([&] { other = quantized({.threads = Threads(2)}); });
  }
  EXPECT_EQ(ended, ErrorKind::interrupted);
  EXPECT_EQ(modules, 1);  // the next one's inputs are not even observed
  EXPECT_EQ(other, hash);
}

TEST(SideBySide, AStopInAPrefillEndsThatRunOnly) {
  const Json value = perplexity({});
  StopSource stop;
  const auto backend = std::make_shared<StoppingBackend>(stop, Threads(2));
  ErrorKind ended = ErrorKind::usage;
  Json other;
  {
    std::jthread stopped([&] {
      ended = kind_of([&] { perplexity({Threads(2), stop.token()}, backend); });
    });
    std::jthread whole([&] { other = perplexity({.threads = Threads(3)}); });
  }
  EXPECT_EQ(ended, ErrorKind::interrupted);
  EXPECT_EQ(backend->attentions, 1);  // of one block: the pass ended before the next
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
