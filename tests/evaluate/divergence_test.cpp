// Divergence statistics against f64 in numpy on the same logits (tests/golden/make_divergence.py),
// and whole measurements on the demo models. Tolerance 1e-5 of a value, or 1e-9 where it is
// smaller: f64 sums over 61 terms agree to 1e-12, a sum in f32 would not.
#include "lib/evaluate/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/parallel.h"
#include "lib/evaluate/subject.h"
#include "tests/base/context_helper.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/evaluate/quality_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

void expect_close(double mine, const Json& theirs, const char* what) {
  const double expected = theirs.get<double>();
  EXPECT_NEAR(mine, expected, std::max(1e-5 * std::fabs(expected), 1e-9)) << what;
}

TEST(Divergence, AgreesWithNumpyInF64) {
  const Path folder = Path(QWB_SOURCE_DIR) / "tests/golden/divergence";
  const Json expected = parse_json(read_text(folder / "reference.json"), "reference.json");
  const int64_t vocabulary = expected["vocabulary"], windows = expected["windows"],
                per_window = expected["tokens"], rows = windows * per_window;
  const std::string bytes = read_text(folder / "logits.bin");
  const auto size = static_cast<size_t>(rows * vocabulary);
  ASSERT_EQ(bytes.size(), 2 * size * sizeof(float) + static_cast<size_t>(rows) * sizeof(int32_t));
  std::vector<float> base(size), other(size);
  std::vector<int32_t> targets(static_cast<size_t>(rows));
  std::memcpy(base.data(), bytes.data(), size * sizeof(float));
  std::memcpy(other.data(), bytes.data() + size * sizeof(float), size * sizeof(float));
  std::memcpy(targets.data(), bytes.data() + 2 * size * sizeof(float),
              targets.size() * sizeof(int32_t));
  bool finite = false;
  const auto executor = make_executor(ExecutorKind::fast, Threads());
  const auto compare = [&] {
    return divergence_of_rows(*executor, In(base.data(), rows, vocabulary),
                              In(other.data(), rows, vocabulary), targets, finite);
  };
  const auto tokens = compare();
  EXPECT_TRUE(finite);
  for (size_t i = 0; i < tokens.size(); ++i) {
    expect_close(tokens[i].kl, expected["kl"][i], "kl");
    expect_close(tokens[i].base_loss, expected["base_loss"][i], "base loss");
    expect_close(tokens[i].other_loss, expected["other_loss"][i], "other loss");
  }
  TokenPlan plan;
  for (int64_t w = 0; w < windows; ++w) {
    plan.windows.push_back({.begin = 0, .size = per_window + 1, .first = 1, .unit = w});
    plan.unit_weights.push_back(static_cast<double>(per_window));
  }
  const DivergenceResult r = summarize_divergence(plan, tokens);
  expect_close(r.mean_kl.value, expected["mean_kl"], "mean");
  expect_close(r.same_top.value, expected["same_top"], "same top");
  expect_close(r.mean_probability.value, expected["mean_probability"], "mean change");
  expect_close(r.rms_probability.value, expected["rms_probability"], "RMS change");
  expect_close(r.correlation, expected["correlation"], "correlation");
  ASSERT_EQ(r.kl_quantiles.size(), expected["kl_quantiles"].size());
  for (size_t i = 0; i < r.kl_quantiles.size(); ++i) {
    expect_close(r.kl_quantiles[i], expected["kl_quantiles"][i], "KL quantile");
    expect_close(r.probability_quantiles[i], expected["probability_quantiles"][i],
                 "change quantile");
  }
  EXPECT_THROW(summarize_divergence(plan, std::span(tokens).first(5)), Error);
  other[70] = NAN;
  compare();
  EXPECT_FALSE(finite);
}

// A demo model and its nf4 artifact.
struct Pair {
  testing::Scratch scratch{"divergence"};
  Subject base, other;
  EvaluationText text = plain_text(read_text(testing::demo("text/eval.txt")).substr(0, 9000), "t");
  Pair() {
    testing::make_artifact(testing::demo("gpt2"), "nf4", scratch.path() / "nf4",
                           testing::demo("gpt2").string());
    base = open_subject(testing::demo("gpt2"), true);
    other = open_subject(scratch.path() / "nf4", true);
  }
  TokenPlan plan(const Subject& subject, const ProtocolOptions& options) const {
    return make_plan(options, subject.model->config(), *subject.tokenizer, text);
  }
  DivergenceMeasurement measure(const Subject& a, const Subject& b, const ProtocolOptions& options,
                                WorkJournal* journal = nullptr, const Context& context = {}) const {
    return measure_divergence(*a.model, plan(a, options), *b.model, plan(b, options), context,
                              journal);
  }
};
Pair& pair() {
  static Pair both;
  return both;
}

TEST(Divergence, PerplexitiesAreThoseOfPerplexity) {
  for (const ProtocolOptions& options :
       {ProtocolOptions{"windows", 128, 0, 4}, ProtocolOptions{"llama.cpp", 128, 0, 4},
        ProtocolOptions{"hf-stride", 128, 40, 4}, ProtocolOptions{"lm-eval", 128}}) {
    const DivergenceMeasurement m = pair().measure(pair().base, pair().other, options);
    const auto alone = [&](const Subject& s) {
      return perplexity_to_json(measure_perplexity(*s.model, pair().plan(s, options), Context()));
    };
    EXPECT_EQ(perplexity_to_json(m.base), alone(pair().base)) << options.protocol;
    EXPECT_EQ(perplexity_to_json(m.other), alone(pair().other)) << options.protocol;
    EXPECT_EQ(m.divergence.ratio.ratio.value, perplexity_ratio(m.other, m.base).ratio.value);
    EXPECT_GT(m.divergence.mean_kl.value, 0.4);  // the demo gpt2 suffers: its perplexity doubles
    EXPECT_LT(m.divergence.mean_kl.value, 1.2);
    EXPECT_GT(m.divergence.same_top.value, 0.3);
    EXPECT_LT(m.divergence.same_top.value, 0.7);
    EXPECT_GT(m.divergence.correlation, 0.8);
    EXPECT_GT(m.divergence.state_bytes, 2 * 4 * pair().base.model->config().vocab);
    EXPECT_GE(m.divergence.kl_quantiles.front(), 0);
  }
}

TEST(Divergence, OfAModelFromItselfIsNothing) {
  const DivergenceResult r =
      pair().measure(pair().base, pair().base, {"windows", 128, 0, 2}).divergence;
  EXPECT_LT(r.kl_quantiles.back(), 1e-12);
  EXPECT_EQ(r.same_top.value, 1);
  EXPECT_EQ(r.ratio.ratio.value, 1);
  EXPECT_EQ(r.rms_probability.value, 0);
  EXPECT_NEAR(r.correlation, 1, 1e-12);
}

TEST(Divergence, DoesNotDependOnThreadsAndSurvivesBeingKept) {
  std::vector<Json> results;
  for (const int count : {1, 3}) {
    const Context context = context_on(count);
    const Subject base = open_subject(testing::demo("gpt2"), true, context);
    const Subject other = open_subject(pair().scratch.path() / "nf4", true, context);
    const DivergenceResult r =
        pair().measure(base, other, {"windows", 200, 0, 2}, nullptr, context).divergence;
    results.push_back(divergence_to_json(r));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(divergence_to_json(divergence_from_json(parse_json(json_text(results[0]), "kept"))),
            results[0]);
}

TEST(Divergence, GoesOnWhereItWasInterrupted) {
  testing::MemoryJournal whole, half;
  const ProtocolOptions options{"windows", 64, 0, 3};
  const Json result =
      divergence_to_json(pair().measure(pair().base, pair().other, options, &whole).divergence);
  half.before = {whole.added.at(0), whole.added.at(1)};
  EXPECT_EQ(
      divergence_to_json(pair().measure(pair().base, pair().other, options, &half).divergence),
      result);
  EXPECT_EQ(half.added.size(), 1u);
}

TEST(Divergence, ModelsMustBelongTogether) {
  const Subject llama = open_subject(testing::demo("llama"), true);
  const auto message = [&](const Subject& a, const TokenPlan& plan_a, const Subject& b,
                           const TokenPlan& plan_b) {
    try {
      measure_divergence(*a.model, plan_a, *b.model, plan_b, Context());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string();
  };
  const ProtocolOptions options{"windows", 64, 0, 1};
  const TokenPlan plan = pair().plan(pair().base, options), foreign = pair().plan(llama, options);
  EXPECT_THAT(message(pair().base, plan, llama, foreign), HasSubstr("split the text differently"));
  const Path tiny = Path(QWB_SOURCE_DIR) / "tests/golden/model/gpt2";  // 96 tokens
  const Subject small = open_subject(tiny, false);
  EXPECT_THAT(message(pair().base, plan, small, plan),
              HasSubstr("a vocabulary of 4096 tokens and the artifact one of 96"));
}

}  // namespace
}  // namespace qwb
