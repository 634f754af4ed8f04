// Perplexities of the demo models against transformers in f32 (tests/golden/make_evaluate.py).
// Tolerance 1e-4 relative: f32 sums differ by 1e-6 between implementations; one token more or less,
// a missing BOS or a shifted target changes a value by more than 1e-3.
#include "lib/evaluate/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/parallel.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/evaluate/quality_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

struct Loaded {
  std::unique_ptr<Model> model;
  std::optional<Tokenizer> tokenizer;
  EvaluationText text;
  explicit Loaded(const std::string& name, Threads threads = {}) {
    const OpenModel open = open_model(testing::demo(name));
    model = Model::load(open.source, open.config, name, make_executor(ExecutorKind::fast, threads));
    tokenizer = Tokenizer::load(testing::demo(name));
    text = read_evaluation_text(testing::demo("text/eval.txt"));
  }
  TokenPlan plan(const ProtocolOptions& options) const {
    return make_plan(options, model->config(), *tokenizer, text);
  }
  PerplexityResult measure(const ProtocolOptions& options = {}) const {
    return measure_perplexity(*model, plan(options), Context());
  }
};

Loaded& llama() {
  static Loaded loaded("llama");
  return loaded;
}
Loaded& gpt2() {
  static Loaded loaded("gpt2");
  return loaded;
}

TEST(SlowPerplexity, AgreesWithTransformers) {
  const Path golden = Path(QWB_SOURCE_DIR) / "tests/golden/evaluate.json";
  const Json cases = parse_json(read_text(golden), golden.string());
  ASSERT_GE(cases.size(), 6u);
  for (const Json& expected : cases) {
    SCOPED_TRACE(expected.dump());
    const Loaded& loaded = expected["model"] == "llama" ? llama() : gpt2();
    const TokenPlan plan =
        loaded.plan({expected["protocol"], expected["context"], 0, expected["windows"]});
    const PerplexityResult result = measure_perplexity(*loaded.model, plan, Context());
    EXPECT_EQ(expected["text_tokens"], static_cast<int64_t>(plan.ids.size()));
    EXPECT_EQ(expected["scored"], result.tokens);
    EXPECT_EQ(expected["windows"], result.windows);
    EXPECT_EQ(expected["protocol"], result.protocol);
    EXPECT_NEAR(result.value.value / expected["value"].get<double>(), 1, 1e-4);
    ASSERT_EQ(result.units.size(), expected["window_means"].size());
    for (size_t i = 0; i < result.units.size(); ++i) {
      EXPECT_NEAR(result.units[i].mean(), expected["window_means"][i].get<double>(), 1e-4);
    }
  }
}

// The whole text (make_evaluate.py --full prints these figures).
TEST(SlowPerplexity, OfTheWholeDemoText) {
  const PerplexityResult small = gpt2().measure();
  EXPECT_EQ(small.context, 512);  // the model's limit
  EXPECT_EQ(small.windows, 169);
  EXPECT_NEAR(small.value.value / 32.91541, 1, 1e-4);
}

TEST(SlowPerplexity, DoesNotDependOnThreads) {
  std::vector<PerplexityResult> results;
  for (const int count : {1, 3}) {
    results.push_back(Loaded("gpt2", Threads(count)).measure({"windows", 200, 0, 2}));
  }
  EXPECT_EQ(perplexity_to_json(results[0]), perplexity_to_json(results[1]));
}

TEST(SlowPerplexity, RatiosArePaired) {
  PerplexityResult base;
  base.protocol = "windows";
  base.context = 10;
  base.units = {{10, 10}, {20, 10}, {30, 10}, {40, 10}};
  PerplexityResult other = base;
  other.units = {{11, 10}, {21, 10}, {33, 10}, {41, 10}};
  const PerplexityRatio ratio = perplexity_ratio(other, base);
  // differences 0.1, 0.1, 0.3, 0.1: mean 0.15, standard deviation 0.1, error of the mean 0.05
  EXPECT_NEAR(ratio.log.value, 0.15, 1e-12);
  EXPECT_NEAR(ratio.ratio.value, std::exp(0.15), 1e-12);
  EXPECT_NEAR(ratio.ratio.standard_error.value(), std::exp(0.15) * 0.05, 0.003);
  EXPECT_NEAR(ratio.log.interval->high, 0.15 + 3.1824463 * 0.05, 1e-9);
  const auto refused = [&](const auto& change) {
    PerplexityResult changed = other;
    change(changed);
    EXPECT_THROW(perplexity_ratio(changed, base), Error);
  };
  refused([](PerplexityResult& r) { r.units.pop_back(); });
  refused([](PerplexityResult& r) { r.protocol = "llama.cpp"; });
  refused([](PerplexityResult& r) { r.stride = 3; });
  refused([](PerplexityResult& r) { r.token_hash = "x"; });
  EXPECT_FALSE(gpt2().measure({"windows", 64, 0, 1}).value.standard_error);
}

// Bit for bit through the JSON that is kept.
TEST(SlowPerplexity, SurvivesBeingKept) {
  const EvaluationText text = plain_text(gpt2().text.whole.substr(0, 1000), "t");
  for (const char* protocol : {"windows", "lm-eval"}) {
    const TokenPlan plan =
        make_plan({protocol, 64}, gpt2().model->config(), *gpt2().tokenizer, text);
    const PerplexityResult result = measure_perplexity(*gpt2().model, plan, Context());
    const PerplexityResult again =
        perplexity_from_json(parse_json(json_text(perplexity_to_json(result)), "kept"));
    EXPECT_EQ(perplexity_to_json(again), perplexity_to_json(result));
    EXPECT_EQ(again.value.value, result.value.value);
    EXPECT_EQ(again.value.interval->low, result.value.interval->low);
    EXPECT_EQ(again.document.has_value(), protocol == std::string("lm-eval"));
  }
}

TEST(SlowPerplexity, GoesOnWhereItWasInterrupted) {
  const TokenPlan plan = gpt2().plan({"windows", 64, 0, 5});
  testing::MemoryJournal whole;
  const PerplexityResult result = measure_perplexity(*gpt2().model, plan, Context(), &whole);
  ASSERT_EQ(whole.added.size(), 5u);
  testing::MemoryJournal half;
  half.before = {whole.added[0], whole.added[1], whole.added[2]};
  EXPECT_EQ(perplexity_to_json(measure_perplexity(*gpt2().model, plan, Context(), &half)),
            perplexity_to_json(result));
  EXPECT_EQ(half.added.size(), 2u);
  half.before[0][0] += 64;  // what the journal says is believed
  EXPECT_GT(measure_perplexity(*gpt2().model, plan, Context(), &half).value.value,
            result.value.value);
}

TEST(SlowPerplexity, RefusesWhatMakesNoSense) {
  const auto refused = [](const ProtocolOptions& options, const std::string& text) {
    return message_of(
        [&] {
          make_plan(options, gpt2().model->config(), *gpt2().tokenizer, plain_text(text, "t"));
        },
        ErrorKind::usage);
  };
  const std::string& text = gpt2().text.whole;
  EXPECT_THAT(refused({"nonsense"}, text),
              HasSubstr("windows, gptq, llama.cpp, hf-stride, lm-eval"));
  EXPECT_THAT(refused({"windows", 513}, text), HasSubstr("4 to 512"));
  EXPECT_THAT(refused({"windows", 3}, text), HasSubstr("4 to 512"));
  EXPECT_THAT(refused({"gptq"}, text),
              HasSubstr("windows of 2048 tokens, and this model takes 512"));
  EXPECT_THAT(refused({"windows", 0, 7}, text), HasSubstr("no stride"));
  EXPECT_THAT(refused({"lm-eval", 0, 7}, text), HasSubstr("no stride"));
  EXPECT_THAT(refused({"hf-stride", 100, 101}, text), HasSubstr("leaves tokens"));
  EXPECT_THAT(refused({"windows", 512}, text.substr(0, 600)),
              HasSubstr("at context 512 needs 512"));
  EXPECT_THAT(refused({"llama.cpp", 100}, text.substr(0, 600)), HasSubstr("needs 200"));
  EXPECT_THAT(refused({"hf-stride"}, "a"), HasSubstr("needs 3"));
  ModelConfig small = gpt2().model->config();
  small.vocab = 100;
  EXPECT_THAT(
      message_of([&] { make_plan({}, small, *gpt2().tokenizer, gpt2().text); }, ErrorKind::usage),
      HasSubstr("the model has only"));
  EXPECT_THAT(message_of([&] { plain_text("", "empty.txt"); }, ErrorKind::failed),
              HasSubstr("empty.txt: the text is empty"));
}

// One row of a tensor replaced by NaN.
class Poisoned : public TensorSource {
 public:
  Poisoned(std::shared_ptr<const TensorSource> source, std::string name, int64_t row)
      : source_(std::move(source)), name_(std::move(name)) {
    const TensorView view = *source_->find(name_);
    const std::vector<float> values = read_floats(view, name_);
    const int64_t columns = view.shape.at(1);
    poison_ = Tensor(DType::f32, view.shape);
    std::copy(values.begin(), values.end(), poison_.data<float>());
    std::fill_n(poison_.data<float>() + row * columns, columns,
                std::numeric_limits<float>::quiet_NaN());
  }
  std::optional<TensorView> find(const std::string& name) const override {
    return name == name_ ? poison_.view() : source_->find(name);
  }
  std::vector<std::string> names() const override { return source_->names(); }

 private:
  std::shared_ptr<const TensorSource> source_;
  std::string name_;
  Tensor poison_;
};

TEST(SlowPerplexity, NamesWhereNaNAppears) {
  const OpenModel open = open_model(testing::demo("gpt2"));
  const auto tensor = [&](const std::string& end) {
    for (const std::string& name : open.source->names()) {
      if (name.ends_with(end)) return name;
    }
    ADD_FAILURE() << end;
    return std::string();
  };
  const TokenPlan plan = gpt2().plan({"windows", 64, 0, 2});
  const auto measure = [&](const std::string& name, int64_t row) {
    return message_of(
        [&] {
          const auto model = Model::load(std::make_shared<Poisoned>(open.source, name, row),
                                         open.config, "poisoned");
          measure_perplexity(*model, plan, Context());
        },
        ErrorKind::failed);
  };
  // The row of a token that the text does not have: hidden states stay finite, the softmax does
  // not.
  int32_t unused = 0;
  while (std::count(plan.ids.begin(), plan.ids.begin() + 128, unused) > 0) ++unused;
  EXPECT_THAT(measure(tensor("wte.weight"), unused),
              HasSubstr("window 0: NaN or Inf first appears in the logit of token " +
                        std::to_string(unused)));
  EXPECT_THAT(measure(tensor("wte.weight"), plan.ids[5]),
              HasSubstr("first appears in " + gpt2().model->spec().embedding));
  EXPECT_THAT(measure(tensor("h.1.mlp.c_fc.weight"), 0), HasSubstr("block 1, "));
  EXPECT_THAT(measure(tensor("h.1.mlp.c_fc.weight"), 0), HasSubstr("mlp.c_fc"));
  EXPECT_THAT(measure(tensor("h.2.mlp.c_proj.weight"), 0), HasSubstr("h.2.mlp.c_proj"));
  EXPECT_THAT(measure(tensor("h.0.attn.c_proj.weight"), 0), HasSubstr("h.0.attn.c_proj"));
  EXPECT_THAT(measure(tensor("h.3.attn.c_attn.weight"), 0), HasSubstr("the attention of "));
}

}  // namespace
}  // namespace qwb
