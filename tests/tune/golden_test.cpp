// The same adapter, tokens and weights as torch and PEFT had (tests/golden/make_tune.py): loss and
// gradients of the first step, factors after twenty. torch computes in f32 as the fast executor
// does: sums of some tens of terms in another order, 1e-7 each; the loss agrees to 1e-6, norms of
// gradients to 1e-4. AdamW divides by the gradient's size, so that small gradients pass on their
// relative error: 1e-3 of the way that the factors went, over all of them together.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "formats/registry.h"
#include "formats/safetensors/safetensors.h"
#include "lib/adapt/peft_reader.h"
#include "lib/tune/trainer.h"

namespace qwb {
namespace {

class TuneGolden : public testing::TestWithParam<std::string> {
 protected:
  TuneGolden()
      : open_(open_model(golden("model"))),
        expected_(SafetensorsFile::open(golden("tune") / "expected.safetensors")) {
    settings_.rank = 4;
    settings_.alpha = 8;
    settings_.steps = 20;
    settings_.rate = 1e-3;
    settings_.schedule = Schedule::constant;
    settings_.warmup = 0;
    settings_.clip = 0;
    settings_.weight_decay = 0.01;
    int64_t next = 0;
    const std::vector<float> weights = floats("weights");
    const TensorView tokens = *expected_.find("tokens"), lengths = *expected_.find("documents");
    for (int64_t d = 0; d < lengths.count(); ++d) {
      const int64_t length = reinterpret_cast<const int32_t*>(lengths.bytes.data())[d];
      const auto* ids = reinterpret_cast<const int32_t*>(tokens.bytes.data()) + next;
      TrainingDocument document;
      document.tokens.assign(ids, ids + length);
      document.weights.assign(weights.begin() + next, weights.begin() + next + length);
      documents_.documents.push_back(std::move(document));
      next += length;
    }
    settings_.batch = std::ssize(documents_.documents);
  }

  static Path golden(const std::string& kind) {
    return Path(QWB_SOURCE_DIR) / "tests/golden" / kind / GetParam();
  }
  std::vector<float> floats(const std::string& name) const {
    const auto tensor = expected_.find(name);
    EXPECT_TRUE(tensor) << name;
    return read_floats(*tensor, name);
  }

  // Begins with PEFT's factors. micro_tokens: of a group of documents.
  struct Run {
    std::unique_ptr<TapedModel> model;
    std::unique_ptr<Trainer> trainer;
    Adapter adapter;  // where it begins
  };
  Run begin(int64_t micro_tokens, int64_t kept_blocks = 1) const {
    Run run;
    run.model = std::make_unique<TapedModel>(open_.source, open_.config, GetParam(),
                                             make_executor(ExecutorKind::fast, Threads(1)));
    run.adapter = bind_peft(read_peft(golden("tune")),
                            adaptable_modules(run.model->config(), run.model->spec()));
    const auto modules = tuned_modules(run.model->modules(), {"all-linear"});
    run.trainer = std::make_unique<Trainer>(*run.model, settings_, modules, documents_, none_,
                                            TuneMachine{micro_tokens, kept_blocks});
    std::vector<float> state;
    for (const LinearSpec& spec : modules) {
      const auto& module =
          *std::ranges::find(run.adapter.modules, spec.module, &AdapterModule::module);
      EXPECT_FLOAT_EQ(module.scale, 2);
      state.insert(state.end(), module.a.begin(), module.a.end());
      state.insert(state.end(), module.b.begin(), module.b.end());
      state.resize(state.size() + 2 * (module.a.size() + module.b.size()));  // moments
    }
    run.trainer->restore(state, 0);
    return run;
  }
  // PEFT's name of a module's factor.
  static std::string key(const std::string& kind, const Run& run, const std::string& module,
                         const std::string& factor) {
    return kind + ".base_model.model." + peft_path_prefix(run.model->config(), run.model->spec()) +
           module + ".lora_" + factor + ".weight";
  }

  OpenModel open_;
  SafetensorsFile expected_;
  TuneSettings settings_;
  DocumentSet documents_, none_;
};

TEST_P(TuneGolden, LossAndGradientsOfTheFirstStep) {
  const Run run = begin(100);
  const StepRecord record = run.trainer->step({});
  const double loss = static_cast<double>(floats("loss").front());
  EXPECT_NEAR(record.loss, loss, 1e-6 * loss);
  double squares = 0;
  for (const AdapterModule& module : run.adapter.modules) {
    for (const std::string factor : {"A", "B"}) {
      const auto norm =
          static_cast<double>(floats(key("norm", run, module.module, factor)).front());
      squares += norm * norm;
    }
  }
  EXPECT_NEAR(record.gradient_norm, std::sqrt(squares), 1e-4 * std::sqrt(squares));
}

TEST_P(TuneGolden, FactorsAfterTwentySteps) {
  for (const int64_t micro_tokens : {100, 20}) {  // all documents together, and nearly each alone
    const Run run = begin(micro_tokens, micro_tokens == 100 ? 2 : 1);
    for (int i = 0; i < 20; ++i) run.trainer->step({});
    const std::vector<AdapterModule> after = run.trainer->adapter_modules();
    double off = 0, way = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      const AdapterModule& before = run.adapter.modules[i];
      ASSERT_EQ(after[i].module, before.module);
      const auto compare = [&](const std::vector<float>& actual, const std::vector<float>& first,
                               const std::string& factor) {
        const std::vector<float> expected = floats(key("after", run, before.module, factor));
        for (size_t k = 0; k < expected.size(); ++k) {
          off += std::pow(static_cast<double>(actual[k]) - static_cast<double>(expected[k]), 2);
          way += std::pow(static_cast<double>(first[k]) - static_cast<double>(expected[k]), 2);
        }
      };
      compare(after[i].a, before.a, "A");
      compare(after[i].b, before.b, "B");
    }
    EXPECT_GT(std::sqrt(way), 0.1);
    EXPECT_LT(std::sqrt(off), 1e-3 * std::sqrt(way)) << micro_tokens;
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, TuneGolden, testing::Values("llama", "qwen3", "gpt2", "mistral"),
                         [](const auto& one) { return one.param; });

}  // namespace
}  // namespace qwb
