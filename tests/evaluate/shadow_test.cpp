// What qwb-eval and qwb-complete do, on a device whose memory faults outside of operations
// (tests/exec/shadow_helper.h): every protocol, divergence, tasks, speed, generation; with the
// processor's bits.
#include "tests/exec/shadow_helper.h"

#include <gtest/gtest.h>

#include "formats/loaded_model.h"
#include "lib/base/file.h"
#include "lib/evaluate/divergence.h"
#include "lib/evaluate/speed.h"
#include "lib/evaluate/tasks/task_score.h"
#include "lib/evaluate/window_scorer.h"
#include "lib/model/generate.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

// A demo model and an artifact of it, on the processor or on the shadow.
class ShadowedPair {
 public:
  ShadowedPair(const std::string& name, const Path& artifact, bool shadow)
      : base_(load_model(testing::demo(name), {.executor = executor(shadow, false)}, {})),
        other_(load_model(artifact, {.executor = executor(shadow, true)}, {})) {}

  // Everything that is measured, as numbers that can be compared.
  Json results() const {
    Json all = Json::array();
    for (const Protocol& protocol : protocols()) {
      const ProtocolOptions options{protocol.name, 96, 0, 2};
      const TokenPlan plan = this->plan(options);
      const DivergenceMeasurement m =
          measure_divergence(*base_.model, plan, *other_.model, plan, {}, nullptr);
      all.push_back(divergence_to_json(m.divergence));
      all.push_back(perplexity_to_json(measure_perplexity(*other_.model, plan, {})));
    }
    for (const std::string task : {"piqa", "lambada_openai"}) all.push_back(answers(task));
    SpeedRunner runner(*other_.model, {16, 2, 8});
    runner.pass();
    all.push_back(other_.model->executor().download(runner.logits()));
    all.push_back(find_non_finite(*other_.model, std::vector<int32_t>{1, 2, 3}));
    all.push_back(generated());
    return all;
  }

 private:
  // The artifact is stored as int8 rows in one case: LLM.int8's products are used then.
  static std::shared_ptr<const Executor> executor(bool shadow, bool int8) {
    std::unique_ptr<Executor> plain =
        int8 ? make_int8_executor(6, Threads(2)) : make_executor(ExecutorKind::fast, Threads(2));
    if (!shadow) return plain;
    return std::make_shared<ShadowExecutor>(std::move(plain));
  }
  TokenPlan plan(const ProtocolOptions& options) const {
    const std::string text = read_text(testing::demo("text/eval.txt")).substr(0, 1500);
    return make_plan(options, base_.model->config(), *base_.tokenizer, plain_text(text, "t"));
  }
  Json answers(const std::string& task) const {
    TaskOptions options;
    options.name = task;
    options.file = Path(QWB_SOURCE_DIR) / "tests/golden/tasks" / (task + ".jsonl");
    options.limit = 3;
    return measure_task(*other_.model, *other_.tokenizer, load_task(options), {}).answers;
  }
  std::vector<int32_t> generated() const {
    std::vector<int32_t> tokens;
    KvCache cache = other_.model->new_cache(40);
    GenerationSettings settings;
    settings.max_tokens = 6;
    settings.sampling = {.temperature = 0.8, .seed = 5};
    generate(*other_.model, std::vector<int32_t>{5, 6, 7, 8, 9, 10, 11}, settings, cache,
             [&](int32_t token) {
               tokens.push_back(token);
               return true;
             });
    return tokens;
  }

  LoadedModel base_, other_;
};

TEST(OnTheShadow, EvaluationsAndCompletionsHaveTheProcessorsBits) {
  const testing::Scratch scratch("shadow");
  for (const auto& [name, method] :
       {std::pair<std::string, std::string>{"llama", "int8"}, {"gpt2", "nf4"}}) {
    const Path artifact = scratch.path() / name;
    testing::make_artifact(testing::demo(name), method, artifact, testing::demo(name).string());
    EXPECT_EQ(ShadowedPair(name, artifact, true).results(),
              ShadowedPair(name, artifact, false).results());
  }
}

}  // namespace
}  // namespace qwb
