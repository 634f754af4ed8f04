// Records to versions and columns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lib/base/error.h"
#include "lib/report/record_file.h"
#include "lib/report/render.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/report/record_helper.h"

namespace qwb::testing {
namespace {

using namespace report;

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::vector<std::string> names(const Report& report) {
  std::vector<std::string> all;
  for (const Version& version : report.versions) all.push_back(version.name);
  return all;
}

std::vector<const Column*> columns(const Report& report, const std::string& metric) {
  std::vector<const Column*> all;
  for (const Column& column : report.columns) {
    if (column.metric.id == metric) all.push_back(&column);
  }
  return all;
}

TEST(ReportBuilder, ProtocolsAndTextsNeverShareAColumnNorAnAxis) {
  Json other_protocol = loss_record("/b", "gptq", 2000000, 20, 1.02, 0.002);
  other_protocol["perplexity"]["protocol"] = "llama.cpp";
  Json other_text = loss_record("/c", "nf4", 2000000, 10, 1.02, 0.002);
  other_text["perplexity"]["token_hash"] = "0000000000000000";
  Json fewer_windows = loss_record("/d", "fp4", 2000000, 15, 1.02, 0.002);
  fewer_windows["perplexity"]["windows"] = 2;
  const Report report = report_of({loss_record("/a", "rtn", 3000000, 33, 1.1, 0.002),
                                   other_protocol, other_text, fewer_windows});
  const auto perplexities = columns(report, "perplexity");
  ASSERT_THAT(perplexities, SizeIs(4));
  for (const Column* column : perplexities) {
    int values = 0;
    for (const Figure& f : column->figures) {
      values += f.value ? 1 : 0;
      EXPECT_EQ(f.why, f.value ? f.why : "measured under another condition");
    }
    EXPECT_EQ(values, 1);
  }
  EXPECT_EQ(perplexities[0]->title(), "perplexity [1]");
  EXPECT_EQ(perplexities[3]->title(), "perplexity [4]");
  for (const Plot& plot : plots_of(report, {})) {
    const auto* scatter = std::get_if<ScatterPlot>(&plot.content);
    EXPECT_EQ(scatter, nullptr) << plot.name;  // one mark each is no picture
  }
  // The same but for the tokenizer: of words and bytes, not of tokens.
  Json words = loss_record("/a", "rtn", 1, 33, 1.1, 0.002),
       words2 = loss_record("/b", "rtn", 1, 34, 1.1, 0.002);
  for (Json* record : {&words, &words2}) (*record)["perplexity"]["protocol"] = "lm-eval";
  words2["perplexity"]["token_hash"] = "other";
  EXPECT_THAT(columns(report_of({words, words2}), "perplexity"), SizeIs(1));
}

TEST(ReportBuilder, UnmeasuredIsNotANumberAndSaysWhy) {
  Json failed = size_record("/b", "gptq", 5, 4);
  failed["problems"] = Json::array({"the text is too short"});
  const Report report = report_of({loss_record("/a", "rtn", 3000000, 33, 1.1, 0.002), failed});
  const Column* perplexity = report.find("perplexity");
  ASSERT_NE(perplexity, nullptr);
  EXPECT_FALSE(perplexity->figures[1].value.has_value());
  EXPECT_EQ(perplexity->figures[1].why, "failed: the text is too short");
  EXPECT_EQ(report.find("decode")->figures[0].why, "not measured (qwb-eval --speed)");
  EXPECT_EQ(report.problems.size(), 1u);
  EXPECT_TRUE(report.find("joules_generated")->empty());
}

TEST(ReportBuilder, RecordsOfOneArtifactComplementEachOther) {
  Json both = speed_record("/a", 100, 90, 110);
  Json loss = loss_record("/a", "rtn", 1000, 33, 1.1, 0.002);
  loss["bpw"] = 4;
  const Report report = report_of({both, loss, loss});
  ASSERT_THAT(report.versions, SizeIs(1));
  EXPECT_EQ(report.find("decode")->figures[0].value, 100);
  EXPECT_EQ(report.find("perplexity")->figures[0].value, 33);
  // A perplexity does not vary: two values are two versions.
  Json changed = loss;
  changed["perplexity"]["value"] = 34;
  EXPECT_THAT(names(report_of({loss, changed})), ElementsAre("a", "a #2"));
}

TEST(ReportBuilder, RepeatedTimingsJoinTheirBounds) {
  const Report report =
      report_of({speed_record("/a", 100, 90, 110), speed_record("/a", 120, 115, 130),
                 speed_record("/a", 125, 120, 127)});
  ASSERT_THAT(report.versions, SizeIs(1));
  const Figure& decode = report.find("decode")->figures[0];
  EXPECT_EQ(decode.value, 115);
  EXPECT_EQ(decode.bounds->low, 90);
  EXPECT_EQ(decode.bounds->high, 130);
}

TEST(ReportBuilder, TheOriginalIsKnownAndHasNoRatio) {
  Json original = loss_record("/models/original", "none", 9000000, 30, 0, 0.002);
  Json copy = loss_record("/models/copy", "none", 9000000, 30, 1.0, 0.002);
  const Report report = report_of({original, copy, loss_record("/a", "rtn", 1, 33, 1.1, 0.002)});
  EXPECT_TRUE(report.versions[0].original);
  EXPECT_FALSE(report.versions[1].original);
  EXPECT_FALSE(report.versions[2].original);
  EXPECT_EQ(report.find("ratio")->figures[0].why, "it is the original");
}

TEST(ReportBuilder, NamesAreShortAndUnique) {
  Json g3 = size_record("/x/cache/objects/ab/cd/data", "gptq", 5, 3), nf4 = g3, nf4b = g3;
  g3["bits"] = 3;
  nf4["artifact"] = "/x/cache/objects/ab/ce/data", nf4["method"] = "nf4";
  nf4b["artifact"] = "/x/cache/objects/ab/cf/data", nf4b["method"] = "nf4";
  Json hub = size_record("/hub/models--Qwen--Qwen3-0.6B/snapshots/0123", "none", 5, 16);
  ReportBuilder builder("t");
  for (const Json& record : {g3, nf4, nf4b, hub}) builder.add(record, "w");
  builder.add(size_record("/y/z", "rtn", 5, 3), "w", "my own");
  EXPECT_THAT(names(builder.build()),
              ElementsAre("gptq-3", "nf4", "nf4 #2", "Qwen/Qwen3-0.6B", "my own"));
}

TEST(ReportBuilder, HostileTextsAreCleaned) {
  ReportBuilder builder("title\x1b[31m\n");
  builder.add(size_record("/a", "rtn\x1b]0;x\x07", 5, 3), "w", "na\nme\xe2\x80\xae\xff");
  const Report report = builder.build();
  EXPECT_EQ(report.title, "title [31m ");
  EXPECT_EQ(report.versions[0].name, "na me \xef\xbf\xbd");
  EXPECT_EQ(report.versions[0].method, "rtn ]0;x ");
}

class ResultFiles : public ::testing::Test {
 protected:
  std::string write(const std::string& text) const {
    const Path file = scratch_.path() / "results.json";
    std::ofstream(file) << text;
    return file.string();
  }
  Scratch scratch_{"records"};
};

TEST_F(ResultFiles, DamagedLinesAreNamedAndTheOthersKept) {
  const std::string good = size_record("/a", "rtn", 5, 3).dump();
  Json old = size_record("/a", "rtn", 5, 3), wrong = old, none = {{"results", 1}};
  old["schema"] = 1;
  wrong["bytes"] = "many";
  const ResultFile file = read_results(write(good + "\n\n{\"schema\": 2,\n" + old.dump() + "\n" +
                                             wrong.dump() + "\n" + none.dump() + "\n" + good));
  EXPECT_EQ(file.results.size(), 2u);
  ASSERT_EQ(file.problems.size(), 4u);
  EXPECT_THAT(file.problems[0].what(), HasSubstr("results.json: line 3"));
  EXPECT_THAT(file.problems[1].what(), HasSubstr("schema 1; this version reads schema 2"));
  EXPECT_EQ(file.problems[1].kind(), ErrorKind::unsupported);
  EXPECT_THAT(file.problems[2].what(), HasSubstr("line 5"));
  EXPECT_THAT(file.problems[3].what(), HasSubstr("no result of qwb-eval --json"));
}

TEST_F(ResultFiles, SpreadOutJsonAndListsAreRead) {
  const Json record = size_record("/a", "rtn", 5, 3);
  EXPECT_EQ(read_results(write(record.dump(2))).results.size(), 1u);
  EXPECT_EQ(read_results(write(Json::array({record, record}).dump(1))).results.size(), 2u);
  EXPECT_THROW(read_results(write("\n \n")), Error);
  EXPECT_THROW(read_results(scratch_.path() / "absent"), Error);
}

TEST_F(ResultFiles, FiguresOfAnotherTypeAreErrorsWithTheirPlace) {
  const auto complaint = [](const char* pointer, const Json& value) {
    Json record = loss_record("/a", "rtn", 5, 33, 1.1, 0.002);
    record[Json::json_pointer(pointer)] = value;
    try {
      readings_of(record, "here");
      return std::string("none");
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_THAT(complaint("/perplexity/value", "x"),
              HasSubstr("here: perplexity/value is not a number"));
  EXPECT_THAT(complaint("/perplexity/interval", Json::array({3, 2})),
              HasSubstr("ends before it begins"));
  EXPECT_THAT(complaint("/perplexity", 3), HasSubstr("neither null nor an object"));
  EXPECT_THAT(complaint("/tasks", 3), HasSubstr("neither null nor a list"));
  EXPECT_THAT(complaint("/perplexity/protocol", 3), HasSubstr("perplexity/protocol is not a text"));
  EXPECT_THAT(complaint("/perplexity/context", 1e300), HasSubstr("out of range"));
  EXPECT_EQ(complaint("/perplexity/value", 3.5), "none");
}

}  // namespace
}  // namespace qwb::testing
