// A report begins with the figures that decide; what they recommend never goes beyond their bounds.
#include "lib/report/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/report/render.h"
#include "tests/report/record_helper.h"

namespace qwb::testing {
namespace {

using namespace report;

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

Recommendation recommended(const Report& report, const std::string& aim) {
  for (const Recommendation& r : answer_of(report).recommendations) {
    if (r.aim == aim) return r;
  }
  ADD_FAILURE() << "nothing about " << aim;
  return {};
}
std::string names_for(const Report& report, const std::string& aim) {
  return recommended_names(report, recommended(report, aim));
}

Json original_record(int64_t bytes) {
  return loss_record("/models/original", "none", bytes, 30, 0, 0.01);
}
Json with_decode(Json record, double rate, double least, double most) {
  record["speed"] = speed_record("/x", rate, least, most)["speed"];
  return record;
}

// c is the smallest and loses too much; a and b stay within 5 %.
Report three() {
  return report_of({original_record(9000000),
                    loss_record("/a", "int8", 5000000, 30.1, 1.004, 0.0005),
                    loss_record("/b", "gptq", 3000000, 30.9, 1.03, 0.002),
                    loss_record("/c", "rtn", 2000000, 33, 1.10, 0.002)});
}

TEST(Answer, TheColumnsAreThoseThatWereMeasured) {
  const auto metrics = [](const Report& report) {
    std::vector<std::string> ids;
    for (const Column* column : answer_of(report).columns) ids.push_back(column->metric.id);
    return ids;
  };
  EXPECT_THAT(metrics(three()), ElementsAre("size", "bpw", "ratio"));
  Json a = with_decode(size_record("/a", "rtn", 10, 4), 5, 4, 6),
       b = size_record("/b", "rtn", 11, 4);
  add_joules(a, 2, 1.9, 2.1, "measured");
  add_divergence(b, 0.1, 0.01);
  EXPECT_THAT(metrics(report_of({a, b})),
              ElementsAre("size", "bpw", "kl", "decode", "joules_generated"));
}

TEST(Answer, TheSmallestMustSurelyStayWithinTheToleratedLoss) {
  EXPECT_EQ(names_for(three(), "smallest"), "b");
  EXPECT_EQ(recommended(three(), "smallest").reason, "3.00 MB; next is a 5.00 MB");
  EXPECT_THAT(recommended(three(), "smallest").rule, HasSubstr("surely at most 5 % above"));
  // 1.046 +- 0.01 may be more than 5 %.
  const Report doubtful =
      report_of({original_record(9000000), loss_record("/b", "gptq", 3000000, 30.9, 1.046, 0.005)});
  EXPECT_EQ(names_for(doubtful, "smallest"), "nothing");
  EXPECT_THAT(recommended(doubtful, "smallest").reason,
              HasSubstr("no version stays surely within 5 %"));
}

TEST(Answer, LeastLossNeedsIntervalsApart) {
  EXPECT_EQ(names_for(three(), "least loss"), "a");
  const Report near =
      report_of({original_record(9000000), loss_record("/a", "int8", 5000000, 30.1, 1.030, 0.002),
                 loss_record("/b", "gptq", 3000000, 30.9, 1.031, 0.002)});
  EXPECT_EQ(names_for(near, "least loss"), "nothing");
  EXPECT_THAT(recommended(near, "least loss").reason, HasSubstr("cannot be told apart: a 1.0300"));
}

TEST(Answer, OfThoseWithoutALossTheSmallestWinsNotTheLuckiest) {
  const Report report =
      report_of({original_record(9000000), loss_record("/a", "none", 8000000, 29.9, 0.998, 0.0005),
                 loss_record("/b", "int8", 5000000, 30, 1.0001, 0.0005)});
  EXPECT_EQ(names_for(report, "least loss"), "b");
}

TEST(Answer, TheOriginalMayBeTheFastest) {
  const Report report =
      report_of({with_decode(original_record(9000000), 100, 95, 105),
                 with_decode(loss_record("/a", "int8", 5000000, 30.1, 1.004, 0.0005), 50, 48, 52),
                 with_decode(loss_record("/c", "rtn", 2000000, 33, 1.10, 0.002), 300, 290, 310)});
  EXPECT_EQ(names_for(report, "fastest"), "original (the original)");
  EXPECT_EQ(recommended(report, "fastest").reason,
            "100 t/s (95.0 to 105 t/s); next is a 50.0 t/s (48.0 to 52.0 t/s)");
}

TEST(Answer, NothingIsSaidOfRangesThatMeetNorOfWhatWasNotMeasured) {
  const Report report =
      report_of({with_decode(original_record(9000000), 100, 60, 105),
                 with_decode(loss_record("/a", "int8", 5000000, 30.1, 1.004, 0.0005), 50, 48, 70)});
  EXPECT_EQ(names_for(report, "fastest"), "nothing");
  EXPECT_THAT(recommended(report, "fastest").reason, HasSubstr("cannot be told apart"));
  EXPECT_EQ(recommended(report, "least energy").reason, "not measured");
}

TEST(Answer, WithoutAMeasuredLossTheRuleSaysSo) {
  const Report report =
      report_of({size_record("/a", "rtn", 10, 4), size_record("/b", "rtn", 9, 4)});
  EXPECT_EQ(names_for(report, "smallest"), "b");
  EXPECT_THAT(recommended(report, "smallest").rule,
              HasSubstr("was not measured and does not count"));
  EXPECT_EQ(names_for(report, "least loss"), "nothing");
  const Report alone = report_of({size_record("/a", "rtn", 10, 4)});
  EXPECT_THAT(answer_of(alone).recommendations, IsEmpty());
}

TEST(Answer, EveryFormatForPeopleBeginsWithIt) {
  const Report report = three();
  const std::string text = report_text(report, false), markdown = report_markdown(report);
  EXPECT_THAT(text, StartsWith("What decides"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "\nRecommended\n  smallest: b\n    because: 3.00 MB; next is a 5.00 MB\n    rule: "));
  EXPECT_LT(markdown.find("## What decides"), markdown.find("## Size"));
  EXPECT_THAT(markdown, HasSubstr("| smallest | b | 3.00 MB; next is a 5.00 MB |"));
  Picture picture;
  picture.svg = "<svg></svg>";
  const std::vector<Plot> plots = plots_of(report, {});
  ASSERT_EQ(plots.front().name, answer_of(report).plot);
  const std::vector<Picture> pictures(plots.size(), picture);
  const std::string html = report_html(report, plots, pictures, "");
  const size_t chart = html.find("against size"), details = html.find("<h2>Size</h2>");
  EXPECT_LT(html.find("<h2>What decides</h2>"), chart);
  EXPECT_LT(chart, details);
  EXPECT_EQ(html.find("<h3>" + plots.front().title, details), std::string::npos)
      << "the chart stands once";
  EXPECT_THAT(html, HasSubstr("<th scope=\"row\">smallest</th><td><b>b</b></td>"));
  const Json json = report_json(report, {}).at("answer");
  EXPECT_EQ(json.at("metrics"), Json({"size", "bpw", "ratio"}));
  EXPECT_EQ(json.at("recommended").at(0).at("versions"), Json({"b"}));
  EXPECT_EQ(json.at("recommended").at(2).at("versions"), Json::array());
}

}  // namespace
}  // namespace qwb::testing
