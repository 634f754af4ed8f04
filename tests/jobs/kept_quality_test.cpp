// What the result cache knows of a model: only what was measured of the same content, forward pass,
// arithmetic and adapters counts, and each figure comes with its conditions.
#include "lib/jobs/kept_quality.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "lib/evaluate/divergence.h"
#include "lib/evaluate/perplexity.h"
#include "lib/evaluate/quality.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

PerplexityResult perplexity_of(std::vector<double> losses) {
  PerplexityResult result;
  result.protocol = "windows";
  result.context = 512;
  result.text_hash = "abc";
  result.token_hash = "def";
  double sum = 0;
  for (const double loss : losses) {
    result.units.push_back({loss, 10});
    sum += loss;
  }
  result.tokens = 10 * std::ssize(losses);
  result.windows = std::ssize(losses);
  result.value.value = std::exp(sum / static_cast<double>(result.tokens));
  return result;
}

Json key_of(const std::string& kind, const std::string& model) {
  return {{"kind", kind},         {"evaluation_version", kEvaluationVersion},
          {"model", model},       {"forward", nullptr},
          {"isa", "cpu-one"},     {"plan", "p"},
          {"protocol", "windows"}};
}

KeptModel model(const std::string& hash) {
  return {hash, nullptr, "cpu-one"};
}

class KeptQuality : public ::testing::Test {
 protected:
  testing::Scratch scratch_{"kept_quality"};
  ResultCache results_{Context(), scratch_.path()};
  const PerplexityResult base_ = perplexity_of({30, 31, 29}), other_ = perplexity_of({32, 32, 31});

  void keep_both() {
    results_.keep(key_of("perplexity", "base"), perplexity_to_json(base_));
    results_.keep(key_of("perplexity", "other"), perplexity_to_json(other_));
  }
};

TEST_F(KeptQuality, PerplexityIsPairedWithTheBases) {
  EXPECT_TRUE(kept_quality(results_, model("other"), model("base"))["perplexity"].is_null());
  keep_both();
  const Json told = kept_quality(results_, model("other"), model("base"))["perplexity"];
  EXPECT_EQ(told["protocol"], "windows");
  EXPECT_EQ(told["tokens"], 30);
  EXPECT_EQ(told["text_hash"], "abc");
  EXPECT_EQ(told["value"], other_.value.value);
  EXPECT_EQ(told["ratio"], perplexity_ratio(other_, base_).ratio.value);
  const Json own = kept_quality(results_, model("base"), model("base"));
  EXPECT_EQ(own["perplexity"]["value"], base_.value.value);
  EXPECT_TRUE(own["perplexity"]["ratio"].is_null());
  EXPECT_TRUE(own["divergence"].is_null());
}

TEST_F(KeptQuality, OtherConditionsDoNotCount) {
  keep_both();
  EXPECT_TRUE(kept_quality(results_, model("third"), model("base"))["perplexity"].is_null());
  EXPECT_TRUE(kept_quality(results_, model(""), model("base"))["perplexity"].is_null());
  for (const auto& [field, value] :
       std::vector<std::pair<std::string, Json>>{{"isa", "cpu-two"},
                                                 {"forward", {{"name", "LLM.int8"}}},
                                                 {"evaluation_version", kEvaluationVersion - 1}}) {
    Json key = key_of("perplexity", "else");
    key[field] = value;
    results_.keep(key, perplexity_to_json(other_));
  }
  EXPECT_TRUE(kept_quality(results_, model("else"), model("base"))["perplexity"].is_null());
  // The base under another plan is no pair.
  Json key = key_of("perplexity", "late");
  key["plan"] = "q";
  results_.keep(key, perplexity_to_json(other_));
  const Json late = kept_quality(results_, model("late"), model("base"))["perplexity"];
  EXPECT_EQ(late["value"], other_.value.value);
  EXPECT_TRUE(late["ratio"].is_null());
}

TEST_F(KeptQuality, AdaptersAreAnotherModel) {
  keep_both();
  const Json adapters = {{{"hash", "a"}, {"scale", 1.0}}};
  KeptModel adapted = model("base");
  adapted.adapters = adapters;
  EXPECT_TRUE(kept_quality(results_, adapted, model("base"))["perplexity"].is_null());
  Json key = key_of("perplexity", "base");
  key["adapters"] = adapters;
  results_.keep(key, perplexity_to_json(other_));
  const Json told = kept_quality(results_, adapted, model("base"))["perplexity"];
  EXPECT_EQ(told["value"], other_.value.value);
  EXPECT_EQ(told["ratio"], perplexity_ratio(other_, base_).ratio.value);
  EXPECT_EQ(kept_quality(results_, model("base"), adapted)["perplexity"]["value"],
            base_.value.value);
}

TEST_F(KeptQuality, DivergenceIsThatFromTheBase) {
  DivergenceResult divergence;
  divergence.protocol = "windows";
  divergence.context = 512;
  divergence.tokens = 30;
  divergence.kl_quantiles.assign(std::size(kDivergenceQuantiles), 0.1);
  divergence.probability_quantiles = divergence.kl_quantiles;
  divergence.mean_kl.value = 0.25;
  divergence.same_top.value = 0.5;
  divergence.ratio = perplexity_ratio(other_, base_);
  Json key = key_of("divergence", "other");
  key["baseline"] = "base";
  const Json kept = {{"divergence", divergence_to_json(divergence)},
                     {"base", perplexity_to_json(base_)},
                     {"other", perplexity_to_json(other_)}};
  results_.keep(key, kept);
  const Json told = kept_quality(results_, model("other"), model("base"));
  EXPECT_EQ(told["divergence"]["mean_kl"], 0.25);
  EXPECT_EQ(told["divergence"]["same_top"], 0.5);
  EXPECT_EQ(told["perplexity"]["ratio"], perplexity_ratio(other_, base_).ratio.value);
  EXPECT_TRUE(kept_quality(results_, model("other"), model("third"))["divergence"].is_null());
  KeptModel adapted = model("base");  // evaluations compare with models without adapters
  adapted.adapters = {{{"hash", "a"}, {"scale", 1.0}}};
  EXPECT_TRUE(kept_quality(results_, model("other"), adapted)["divergence"].is_null());
  // What another version of this program wrote is left alone.
  Json broken = key_of("divergence", "broken");
  broken["baseline"] = "base";
  results_.keep(broken, {{"divergence", 1}});
  EXPECT_TRUE(kept_quality(results_, model("broken"), model("base"))["divergence"].is_null());
}

}  // namespace
}  // namespace qwb
