// Perplexities of the demo models against transformers in f32 (tests/golden/make_evaluate.py). Tolerance 1e-4
// relative: f32 sums differ by 1e-6 between implementations; one token more or less, a missing BOS or a
// shifted target changes a value by more than 1e-3.
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

namespace qwb {
namespace {

using ::testing::HasSubstr;

struct Loaded {
  std::unique_ptr<Model> model;
  EncodedText text;
  explicit Loaded(const std::string& name) {
    const OpenModel open = open_model(testing::demo(name));
    model = Model::load(open.source, open.config, name);
    const Path file = testing::demo("text/eval.txt");
    text = encode_text(Tokenizer::load(testing::demo(name)), read_text(file), file.string());
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

std::string message_of(const std::function<void()>& work, ErrorKind kind) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Perplexity, AgreesWithTransformers) {
  const Path golden = Path(QWB_SOURCE_DIR) / "tests/golden/evaluate.json";
  const Json cases = parse_json(read_text(golden), golden.string());
  ASSERT_GE(cases.size(), 6u);
  for (const Json& expected : cases) {
    SCOPED_TRACE(expected.dump());
    const Loaded& loaded = expected["model"] == "llama" ? llama() : gpt2();
    const PerplexityOptions options{expected["protocol"], expected["context"], expected["windows"]};
    const PerplexityResult result =
        measure_perplexity(*loaded.model, loaded.text, options, silent_progress());
    EXPECT_EQ(static_cast<int64_t>(loaded.text.ids.size()), expected["text_tokens"]);
    EXPECT_EQ(result.tokens, expected["scored"]);
    EXPECT_EQ(result.windows, expected["windows"]);
    EXPECT_EQ(result.protocol, expected["protocol"]);
    EXPECT_NEAR(result.value / expected["value"].get<double>(), 1, 1e-4);
    ASSERT_EQ(result.window_means.size(), expected["window_means"].size());
    for (size_t i = 0; i < result.window_means.size(); ++i) {
      EXPECT_NEAR(result.window_means[i], expected["window_means"][i].get<double>(), 1e-4);
    }
  }
}

// The whole text (make_evaluate.py --full prints these figures).
TEST(Perplexity, OfTheWholeDemoText) {
  const PerplexityResult small = measure_perplexity(*gpt2().model, gpt2().text, {}, silent_progress());
  EXPECT_EQ(small.context, 512);  // the model's limit
  EXPECT_EQ(small.windows, 169);
  EXPECT_NEAR(small.value / 32.91541, 1, 1e-4);
  const PerplexityResult large = measure_perplexity(*llama().model, llama().text, {}, silent_progress());
  EXPECT_EQ(large.context, 1024);
  EXPECT_EQ(large.tokens, 81 * 1023);
  EXPECT_NEAR(large.value / 31.04044, 1, 1e-4);
}

TEST(Perplexity, DoesNotDependOnThreads) {
  const int before = threads();
  std::vector<PerplexityResult> results;
  for (const int count : {1, 3}) {
    set_threads(count);
    results.push_back(measure_perplexity(*gpt2().model, gpt2().text, {"windows", 200, 2}, silent_progress()));
  }
  set_threads(before);
  EXPECT_EQ(results[0].window_means, results[1].window_means);
}

TEST(Perplexity, StandardErrorsFollowFromTheWindows) {
  PerplexityResult base;
  base.protocol = "windows";
  base.context = 10;
  base.window_means = {1, 2, 3, 4};
  PerplexityResult other = base;
  other.window_means = {1.1, 2.1, 3.3, 4.1};
  const PerplexityRatio ratio = perplexity_ratio(other, base);
  // differences 0.1, 0.1, 0.3, 0.1: mean 0.15, standard deviation 0.1, error of the mean 0.05
  EXPECT_NEAR(ratio.value, std::exp(0.15), 1e-12);
  EXPECT_NEAR(ratio.standard_error.value(), std::exp(0.15) * 0.05, 1e-12);
  other.window_means.pop_back();
  EXPECT_THROW(perplexity_ratio(other, base), Error);
  other = base;
  other.protocol = "llama.cpp";
  EXPECT_THROW(perplexity_ratio(other, base), Error);
  other = base;
  other.token_hash = "x";
  EXPECT_THROW(perplexity_ratio(other, base), Error);

  const PerplexityResult result =
      measure_perplexity(*gpt2().model, gpt2().text, {"windows", 64, 3}, silent_progress());
  const std::vector<double>& m = result.window_means;
  const double center = (m[0] + m[1] + m[2]) / 3;
  const double squares = std::pow(m[0] - center, 2) + std::pow(m[1] - center, 2) + std::pow(m[2] - center, 2);
  EXPECT_NEAR(result.standard_error.value(), result.value * std::sqrt(squares / 2 / 3), 1e-9);
  EXPECT_FALSE(
      measure_perplexity(*gpt2().model, gpt2().text, {"windows", 64, 1}, silent_progress()).standard_error);
}

TEST(Perplexity, HashesNameTextAndTokens) {
  const Tokenizer tokenizer = Tokenizer::load(testing::demo("gpt2"));
  const EncodedText a = encode_text(tokenizer, "some text", "t");
  const EncodedText b = encode_text(tokenizer, "some text.", "t");
  EXPECT_EQ(a.text_hash.size(), 32u);
  EXPECT_NE(a.text_hash, b.text_hash);
  EXPECT_NE(a.token_hash, b.token_hash);
  EXPECT_EQ(a.token_hash, encode_text(tokenizer, "some text", "t").token_hash);
}

TEST(Perplexity, RefusesWhatMakesNoSense) {
  const Model& model = *gpt2().model;
  EncodedText text = gpt2().text;
  const auto measure = [&](const PerplexityOptions& options) {
    measure_perplexity(model, text, options, silent_progress());
  };
  EXPECT_THAT(message_of(
                  [&] {
                    measure({"nonsense", 0, 0});
                  },
                  ErrorKind::usage),
              HasSubstr("windows, llama.cpp"));
  EXPECT_THAT(message_of([&] { measure({"windows", 513, 0}); }, ErrorKind::usage), HasSubstr("4 to 512"));
  EXPECT_THAT(message_of([&] { measure({"windows", 3, 0}); }, ErrorKind::usage), HasSubstr("4 to 512"));
  text.ids.resize(511);
  EXPECT_THAT(message_of([&] { measure({"windows", 512, 0}); }, ErrorKind::usage), HasSubstr("511 tokens"));
  text.ids.resize(150);
  EXPECT_THAT(message_of([&] { measure({"llama.cpp", 100, 0}); }, ErrorKind::usage), HasSubstr("needs 200"));
  text.ids[3] = static_cast<int32_t>(model.config().vocab);
  EXPECT_THAT(message_of(
                  [&] {
                    measure({"windows", 100, 0});
                  },
                  ErrorKind::usage),
              HasSubstr("the model has only"));
  const Tokenizer tokenizer = Tokenizer::load(testing::demo("gpt2"));
  EXPECT_THAT(message_of([&] { encode_text(tokenizer, "", "empty.txt"); }, ErrorKind::failed),
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
    std::fill_n(poison_.data<float>() + row * columns, columns, std::numeric_limits<float>::quiet_NaN());
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

TEST(Perplexity, NamesWhereNaNAppears) {
  const OpenModel open = open_model(testing::demo("gpt2"));
  std::string embedding;
  std::string linear;
  for (const std::string& name : open.source->names()) {
    if (name.ends_with("wte.weight")) embedding = name;
    if (name.ends_with("h.1.mlp.c_fc.weight")) linear = name;
  }
  ASSERT_FALSE(embedding.empty() || linear.empty());
  const auto measure = [&](const std::string& name, int64_t row) {
    const auto work = [&] {
      const auto model =
          Model::load(std::make_shared<Poisoned>(open.source, name, row), open.config, "poisoned");
      measure_perplexity(*model, gpt2().text, {"windows", 64, 2}, silent_progress());
    };
    return message_of(work, ErrorKind::failed);
  };
  // The row of a token that the text does not have: hidden states stay finite, the softmax does not.
  int32_t unused = 0;
  while (std::count(gpt2().text.ids.begin(), gpt2().text.ids.begin() + 128, unused) > 0) ++unused;
  EXPECT_THAT(measure(embedding, unused),
              HasSubstr("the logit of token " + std::to_string(unused) + " in window 0 is "));
  EXPECT_THAT(measure(linear, 0), HasSubstr("block 1"));
}

}  // namespace
}  // namespace qwb
