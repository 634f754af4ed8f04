// What qwb.json and the kept results of earlier evaluations tell.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lib/base/error.h"
#include "lib/evaluate/perplexity.h"
#include "lib/report/kept.h"
#include "lib/report/making.h"
#include "lib/report/render.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/report/record_helper.h"

namespace qwb::testing {
namespace {

using namespace report;

using ::testing::HasSubstr;

TEST(Making, OfARealArtifact) {
  const Scratch scratch("making");
  const Path folder = scratch.path() / "nf4";
  make_artifact(demo("gpt2"), "nf4", folder, demo("gpt2").string());
  const std::optional<Making> making = making_of(folder);
  ASSERT_TRUE(making.has_value());
  EXPECT_EQ(making->calibration, "");
  EXPECT_EQ(source_folder(*making, folder), demo("gpt2"));
  ASSERT_EQ(making->modules.size(), 16u);
  EXPECT_EQ(making->modules.back().block, 3);
  EXPECT_FALSE(making_of(demo("gpt2")).has_value());
  std::ofstream(folder / "qwb.json", std::ios::app) << "x";
  EXPECT_THROW(making_of(folder), Error);
}

TEST(Making, ErrorsByBlockAreMeansOfTheirModules) {
  Report report;
  for (const char* name : {"a", "b"}) {
    Version version;
    version.name = name;
    report.versions.push_back(version);
  }
  report.versions[0].making = Making{};
  report.versions[0].making->modules = {{"h.10.x", 10, 0.5, std::nullopt, std::nullopt},
                                        {"h.2.x", 2, 0.1, std::nullopt, std::nullopt},
                                        {"h.2.y", 2, 0.3, 0.7, std::nullopt},
                                        {"lm_head", std::nullopt, 0.9, std::nullopt, std::nullopt}};
  const std::vector<BlockErrors> tables = block_errors(report);
  ASSERT_EQ(tables.size(), 2u);
  EXPECT_EQ(tables[0].versions, std::vector<std::string>{"a"});
  EXPECT_EQ(tables[0].rows, (std::vector<std::string>{"block 2", "block 10", "lm_head"}));
  EXPECT_DOUBLE_EQ(tables[0].cells[0][0].value(), 0.2);
  EXPECT_EQ(tables[1].rows, std::vector<std::string>{"block 2"});
  const std::vector<Plot> plots = plots_of(report, {});
  ASSERT_EQ(plots.size(), 2u);
  const auto& lines = std::get<LinePlot>(plots[0].content).lines;
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].points.size(), 2u);  // lm_head lies in no block
}

// A perplexity as an evaluation keeps it.
Json kept_perplexity(double loss) {
  PerplexityResult result;
  result.protocol = "windows";
  result.context = 8;
  result.tokens = 80;
  result.windows = 10;
  for (int i = 0; i < 10; ++i) result.units.push_back({8 * (loss + 0.01 * i), 8});
  result.value = exp_of(estimate_mean(result.units));
  result.token_hash = "t";
  return perplexity_to_json(result);
}

Json quality_key(const std::string& kind, const std::string& model, const std::string& plan) {
  return {{"kind", kind},
          {"model", model},
          {"forward", nullptr},
          {"plan", plan},
          {"protocol", "windows"}};
}

TEST(Kept, RatiosComeFromTheOriginalUnderTheSamePlan) {
  const std::vector<KeptResult> kept = {
      {quality_key("perplexity", "mine", "p1"), kept_perplexity(2.0)},
      {quality_key("perplexity", "mine", "p1"), kept_perplexity(9.0)},  // older
      {quality_key("perplexity", "mine", "p2"), kept_perplexity(2.5)},
      {quality_key("perplexity", "source", "p1"), kept_perplexity(1.9)},
      {quality_key("perplexity", "other", "p3"), kept_perplexity(1.0)},
      {quality_key("perplexity", "mine", "p4"), {{"damaged", true}}}};
  EvaluationRecord model;
  model.artifact = "/a";
  model.quality.baseline = "/models/original";
  const std::vector<Json> records = kept_records(model, "mine", "source", kept);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_NEAR(records[0]["perplexity"]["ratio"].get<double>(), std::exp(0.1), 1e-9);
  EXPECT_TRUE(records[0]["perplexity"]["cached"].get<bool>());
  EXPECT_NEAR(records[0]["perplexity"]["value"].get<double>(), std::exp(2.045), 1e-9);
  EXPECT_TRUE(records[1]["perplexity"]["ratio"]
                  .is_null());  // the original was not measured under that plan
  for (const Json& record : records) EXPECT_NO_THROW(readings_of(record, "kept"));
}

TEST(Kept, TheNewestTimingOfEachMachineAndWork) {
  const auto speed = [](const std::string& machine, double rate) {
    Json record = speed_record("/a", rate, rate, rate);
    return KeptResult{
        {{"what", "speed"}, {"content", "mine"}, {"tests", "pp8"}, {"machine", machine}},
        {{"speed", record["speed"]}, {"memory", Json::object()}}};
  };
  EvaluationRecord model;
  model.artifact = "/a";
  const std::vector<Json> records =
      kept_records(model, "mine", "", {speed("here", 10), speed("here", 20), speed("there", 30)});
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0]["speed"]["decode"]["median"], 10);
  EXPECT_EQ(records[1]["speed"]["decode"]["median"], 30);
}

}  // namespace
}  // namespace qwb::testing
