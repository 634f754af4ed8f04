// What is said for and against versions follows from the figures and never goes beyond their
// bounds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/report/pareto.h"
#include "lib/report/render.h"
#include "tests/report/record_helper.h"

namespace qwb::testing {
namespace {

using namespace report;

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr bool kFor = true, kAgainst = false;

TEST(Pareto, TheFrontIsWhatNoOtherBeatsInBoth) {
  const std::vector<CostPair> pairs = {{1, 9}, {2, 5}, {2, 6}, {3, 5}, {4, 1}, {4, 1}, {0.5, 20}};
  EXPECT_EQ(pareto_front(pairs), (std::vector<bool>{true, true, false, false, true, true, true}));
  EXPECT_EQ(pareto_front({}), std::vector<bool>{});
}

TEST(Pareto, SurelyBetterNeedsBoundsThatDoNotMeet) {
  Column column;
  column.metric.bounds = BoundsKind::interval;
  const auto figure = [](double value, double low, double high) {
    Figure f;
    f.value = value;
    f.bounds = Interval{low, high};
    return f;
  };
  EXPECT_TRUE(surely_better(column, figure(1, 0.5, 1.4), figure(2, 1.5, 2.5)));
  EXPECT_FALSE(surely_better(column, figure(1, 0.5, 1.5), figure(2, 1.5, 2.5)));
  EXPECT_FALSE(surely_better(column, figure(2, 1.5, 2.5), figure(1, 0.5, 1.4)));
  Figure unknown;
  unknown.value = 0;
  EXPECT_FALSE(surely_better(column, unknown, figure(2, 1.5, 2.5)));
  column.metric.better = Better::higher;
  EXPECT_TRUE(surely_better(column, figure(2, 1.5, 2.5), figure(1, 0.5, 1.4)));
}

TEST(Judgements, TheBestIsNamedWithItsFiguresAndTheNext) {
  const Report report = report_of({loss_record("/a", "rtn", 3000000, 33, 1.10, 0.002),
                                   loss_record("/b", "gptq", 2000000, 31, 1.02, 0.002),
                                   loss_record("/c", "nf4", 4000000, 32, 1.05, 0.002)});
  EXPECT_THAT(
      statements(report, "b", kFor),
      Contains(
          "least perplexity lost of 3 measured: 1.0200 (95 %: 1.0160 to 1.0240); next is c with "
          "1.0500 (95 %: 1.0460 to 1.0540)"));
  EXPECT_THAT(statements(report, "a", kAgainst),
              Contains(HasSubstr("most perplexity lost of 3 measured: 1.1000")));
  EXPECT_THAT(statements(report, "b", kFor),
              Contains("smallest of 3 measured: 2.00 MB; next is a with 3.00 MB"));
}

TEST(Judgements, NobodyIsBestWithinError) {
  const Report report = report_of({loss_record("/a", "rtn", 3000000, 33, 1.030, 0.01),
                                   loss_record("/b", "gptq", 2000000, 31, 1.029, 0.01),
                                   loss_record("/c", "nf4", 4000000, 32, 1.20, 0.01),
                                   loss_record("/d", "fp4", 4000000, 32, 1.30, 0.01)});
  for (const char* version : {"a", "b"}) {
    EXPECT_THAT(statements(report, version, kFor), Not(Contains(HasSubstr("next is a with 1.0"))));
    EXPECT_THAT(statements(report, version, kFor),
                Contains(HasSubstr("within error of the least perplexity lost")));
  }
  EXPECT_THAT(statements(report, "c", kFor), Not(Contains(HasSubstr("within error"))));
}

TEST(Judgements, WhatWasMeasuredOnceIsNotJudged) {
  Json a = loss_record("/a", "rtn", 3000000, 33, 1.10, 0.002),
       b = loss_record("/b", "gptq", 3000000, 31, 1.02, 0.002);
  for (Json* record : {&a, &b}) (*record)["perplexity"]["ratio_interval"] = nullptr;
  const Report report = report_of({a, b});
  for (const char* version : {"a", "b"}) {
    EXPECT_THAT(statements(report, version, kFor), Not(Contains(HasSubstr("perplexity"))));
    EXPECT_THAT(statements(report, version, kAgainst), Not(Contains(HasSubstr("perplexity"))));
  }
}

TEST(Judgements, LossIsOnlyClaimedBeyondItsInterval) {
  const Report report = report_of({loss_record("/a", "rtn", 3000000, 33, 1.001, 0.002),
                                   loss_record("/b", "gptq", 2000000, 31, 1.01, 0.002)});
  EXPECT_THAT(statements(report, "a", kFor),
              Contains(AllOf(HasSubstr("no loss of perplexity beyond error"),
                             HasSubstr("at most 0.50 %"))));
  EXPECT_THAT(statements(report, "b", kAgainst),
              Contains("perplexity 1.00 % above the original's (95 %: 0.60 % to 1.40 %)"));
}

TEST(Judgements, AVersionThatIsBeatenInBothIsTold) {
  const Report report = report_of({loss_record("/a", "rtn", 3000000, 33, 1.10, 0.002),
                                   loss_record("/b", "gptq", 2000000, 31, 1.02, 0.002)});
  EXPECT_THAT(statements(report, "a", kAgainst),
              Contains(HasSubstr("b loses less and is no larger")));
  EXPECT_THAT(statements(report, "b", kAgainst), Not(Contains(HasSubstr("no larger"))));
  const Report close = report_of({loss_record("/a", "rtn", 3000000, 33, 1.022, 0.002),
                                  loss_record("/b", "gptq", 2000000, 31, 1.02, 0.002)});
  EXPECT_THAT(statements(close, "a", kAgainst), Not(Contains(HasSubstr("no larger"))));
}

TEST(Judgements, SpeedIsComparedByRangesAndSaysThatTheyAreOfOneRun) {
  const Report apart =
      report_of({speed_record("/a", 100, 95, 105), speed_record("/b", 200, 190, 210)});
  EXPECT_THAT(statements(apart, "b", kFor),
              Contains(HasSubstr("fastest decode of 2 measured (one run each): 200 t/s")));
  const Report meet =
      report_of({speed_record("/a", 100, 95, 195), speed_record("/b", 200, 190, 210)});
  EXPECT_THAT(statements(meet, "b", kFor), Not(Contains(HasSubstr("decode"))));
  // A second run of a joins the first: now the ranges meet.
  const Report twice =
      report_of({speed_record("/a", 100, 95, 105), speed_record("/b", 200, 190, 210),
                 speed_record("/a", 190, 180, 195)});
  EXPECT_THAT(statements(twice, "b", kFor), Not(Contains(HasSubstr("decode"))));
}

TEST(Judgements, NothingFollowsFromNoisyJoules) {
  Json a = speed_record("/a", 100, 95, 105), b = speed_record("/b", 200, 190, 210);
  add_joules(a, 2, 1.9, 2.1, "measured");
  add_joules(b, 1, 0.9, 1.1, "measured");
  EXPECT_THAT(statements(report_of({a, b}), "b", kFor), Contains(HasSubstr("least energy")));
  b["energy"]["windows"][0]["noisy"] = true;
  const Report report = report_of({a, b});
  for (const bool side : {kFor, kAgainst}) {
    for (const char* name : {"a", "b"})
      EXPECT_THAT(statements(report, name, side), Not(Contains(HasSubstr("energy"))));
  }
  EXPECT_THAT(report_text(report, false), HasSubstr("(noisy)"));
}

// "0.06 times the original's" because something else ran.
TEST(Judgements, NothingFollowsFromANoisyFigure) {
  Json noisy = speed_record("/a", 100, 95, 105);
  noisy["speed"]["decode"]["noisy"] = true;
  const Json quiet = speed_record("/b", 200, 190, 210), third = speed_record("/c", 300, 290, 310);
  const Report report = report_of({noisy, quiet});
  for (const bool side : {kFor, kAgainst}) {
    for (const char* name : {"a", "b"})
      EXPECT_THAT(statements(report, name, side), Not(Contains(HasSubstr("decode"))));
  }
  EXPECT_THAT(report_text(report, false), HasSubstr("100 t/s (noisy)"));
  EXPECT_THAT(report_markdown(report), HasSubstr("100 t/s (noisy)"));
  EXPECT_THAT(report_html(report, {}, {}, ""),
              HasSubstr("something else meanwhile: nothing is concluded"));
  EXPECT_EQ(report_json(report, {}).at("answer").at("recommended").at(1).at("versions"),
            Json::array());
  const Report others =
      report_of({noisy, quiet, third});  // those that are not noisy are compared all the same
  EXPECT_THAT(statements(others, "c", kFor), Contains(HasSubstr("fastest decode of 2 measured")));
}

TEST(Judgements, ANoisyRunGivesWayToAQuietOne) {
  Json noisy = speed_record("/a", 10, 5, 15);
  noisy["speed"]["decode"]["noisy"] = true;
  for (const auto& runs : {std::vector<Json>{noisy, speed_record("/a", 100, 95, 105)},
                           {speed_record("/a", 100, 95, 105), noisy}}) {
    const Report report = report_of(runs);
    EXPECT_EQ(report.find("decode")->figures[0].value, 100);
    EXPECT_FALSE(report.find("decode")->figures[0].noisy);
  }
  EXPECT_TRUE(report_of({noisy, noisy}).find("decode")->figures[0].noisy);
}

TEST(Judgements, TheWorstIsNamedOnlyIfItIsSurelySo) {
  const auto worst_of = [](double least) {
    const Report report =
        report_of({speed_record("/a", 100, least, 105), speed_record("/b", 200, 190, 210),
                   speed_record("/c", 101, 99, 104)});
    return statements(report, "a", kAgainst);
  };
  EXPECT_THAT(worst_of(95), Not(Contains(HasSubstr("slowest"))));  // c may be slower
  const Report apart =
      report_of({speed_record("/a", 100, 95, 105), speed_record("/b", 200, 190, 210),
                 speed_record("/c", 150, 140, 160)});
  EXPECT_THAT(statements(apart, "a", kAgainst),
              Contains(HasSubstr("slowest decode of 3 measured")));
}

TEST(Judgements, NothingIsSaidAgainstTheOriginalWithinError) {
  const auto compared = [](double least, double most) {
    Json original = speed_record("/o", 100, 95, 105);
    original["method"] = "none";
    const Report report = report_of({original, speed_record("/b", 110, least, most)});
    EXPECT_TRUE(report.versions[0].original);
    std::vector<std::string> said = statements(report, "b", kFor);
    for (const std::string& against : statements(report, "b", kAgainst))
      said.push_back("against: " + against);
    return said;
  };
  EXPECT_THAT(compared(108, 112), Contains(HasSubstr("1.10 times the original's")));
  EXPECT_THAT(compared(104, 112), Not(Contains(HasSubstr("the original's"))));
}

TEST(Judgements, WhoIsLargerBeatsNobody) {
  const Report report = report_of({loss_record("/small", "rtn", 2000000, 33, 1.10, 0.002),
                                   loss_record("/large", "gptq", 3000000, 31, 1.02, 0.002)});
  EXPECT_THAT(statements(report, "small", kAgainst), Not(Contains(HasSubstr("no larger"))));
}

TEST(Judgements, EstimatesOfJoulesAreCalledSo) {
  Json a = size_record("/a", "rtn", 3000000, 4), b = size_record("/b", "gptq", 2000000, 4);
  add_joules(a, 2, 1.9, 2.1, "estimated");
  add_joules(b, 1, 0.9, 1.1, "estimated");
  EXPECT_THAT(statements(report_of({a, b}), "b", kFor), Contains(HasSubstr("an estimated 1.00 J")));
  add_joules(b, 1, 0.9, 1.1, "measured");
  const Report mixed = report_of({a, b});  // another source: another column, nothing to compare
  EXPECT_THAT(statements(mixed, "b", kFor), Not(Contains(HasSubstr("energy"))));
}

TEST(Judgements, ASingleVersionIsNotTheBestOfAnything) {
  EXPECT_THAT(report_of({size_record("/a", "rtn", 3000000, 4)}).judgements, IsEmpty());
}

}  // namespace
}  // namespace qwb::testing
