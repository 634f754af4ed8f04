// gnuplot draws plots as they are written: labels cover neither marks nor each other, texts stay
// inside of the picture, names are neither commands nor markup.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <regex>
#include <set>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/base/text.h"
#include "lib/report/drawing.h"
#include "lib/report/gnuplot.h"
#include "lib/report/label_placement.h"
#include "lib/report/plot.h"
#include "tests/report/record_helper.h"

namespace qwb::testing {
namespace {

using namespace report;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Drawing, StylesDifferInColourOrShape) {
  std::set<std::pair<int, int>> styles;
  for (size_t i = 0; i < 42; ++i) {
    EXPECT_TRUE(styles.insert({style_color(i), style_point(i, true)}).second) << i;
    EXPECT_NE(style_point(i, true), style_point(i, false));
  }
}

TEST(Labels, NoneCoversAnotherNorAMark) {
  Rng rng(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<LabelRequest> requests;
    std::vector<Box> marks;
    for (int i = 0; i < 14; ++i) {
      const double x = 90 + 300 * rng.uniform(), y = 20 + 200 * rng.uniform() * rng.uniform();
      requests.push_back({x, y, 40 + 40 * rng.uniform(), 15});
      marks.push_back({x - 6, y - 6, x + 6, y + 6});
    }
    const Box inside{86, 12, 476, 262};
    const std::vector<LabelPlace> places = place_labels(requests, marks, inside);
    for (size_t i = 0; i < places.size(); ++i) {
      ASSERT_FALSE(places[i].crowded);
      const auto box = [&](size_t k) {
        return Box{places[k].x - requests[k].width / 2, places[k].y - requests[k].height / 2,
                   places[k].x + requests[k].width / 2, places[k].y + requests[k].height / 2};
      };
      for (size_t j = 0; j < i; ++j) EXPECT_FALSE(box(i).meets(box(j)));
      for (const Box& mark : marks) EXPECT_FALSE(box(i).meets(mark));
      EXPECT_GE(box(i).left, inside.left);
      EXPECT_LE(box(i).right, inside.right);
    }
  }
}

TEST(Labels, ACrowdIsPlacedAllTheSame) {
  const std::vector<LabelRequest> requests(200, {100, 100, 300, 15});
  EXPECT_EQ(place_labels(requests, {}, {0, 0, 200, 200}).size(), 200u);
}

// --- gnuplot itself

class GnuplotRun : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto found = find_gnuplot();
    if (!found) GTEST_SKIP() << "no gnuplot";
    gnuplot_ = *found;
  }
  Path gnuplot_;
};

TEST_F(GnuplotRun, DrawsTheSameEveryTime) {
  const std::vector<Plot> plots = plots_of(small_report(), {});
  const auto first = draw_plots(gnuplot_, plots, true, true),
             second = draw_plots(gnuplot_, plots, true, true);
  ASSERT_EQ(first.size(), plots.size());
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].svg, second[i].svg);
    EXPECT_EQ(first[i].png, second[i].png);
    EXPECT_THAT(first[i].png, ::testing::StartsWith("\x89PNG"));
    EXPECT_THAT(first[i].svg, HasSubstr("prefers-color-scheme:dark"));
    EXPECT_THAT(first[i].svg, HasSubstr("currentColor"));
    EXPECT_THAT(first[i].svg, Not(HasSubstr("Produced by GNUPLOT")));
    EXPECT_FALSE(
        std::regex_search(first[i].svg, std::regex("['\"](black|rgb\\( *0, *0, *0\\))['\"]")))
        << "invisible on dark paper";
  }
}

TEST_F(GnuplotRun, NamesAreNeitherCommandsNorMarkup) {
  const std::string trace = "/tmp/qwb-report-trace-" + std::to_string(getpid());
  ReportBuilder builder("t");
  builder.add(loss_record("/a", "rtn", 3, 33, 1.1, 0.002), "w", "<script>`touch " + trace + "`'");
  builder.add(loss_record("/b", "rtn", 2, 31, 1.02, 0.002), "w",
              "'.system('touch " + trace + "').' %s {x}_y &lt; \\");
  for (const Picture& picture : draw_plots(gnuplot_, plots_of(builder.build(), {}), true, false)) {
    EXPECT_THAT(picture.svg, Not(HasSubstr("<script")));
    const std::string page = inline_svg(picture.svg, "p1-");
    EXPECT_THAT(page, ::testing::StartsWith("<svg role=\"img\""));
    EXPECT_FALSE(std::regex_search(page, std::regex("id=['\"]gp")))
        << "ids are those of any other picture";
    EXPECT_FALSE(std::regex_search(page, std::regex("'#gp")));
  }
  EXPECT_FALSE(std::filesystem::exists(trace));
}

// A text of an SVG that gnuplot wrote: its anchor is at x, y.
struct SvgText {
  double x = 0, y = 0, font = 0;
  bool upright = false;
  std::string anchor, text;
};

std::vector<SvgText> texts_of(const std::string& svg) {
  static const std::regex element(
      "<g transform=\"translate\\(([-0-9.]+),([-0-9.]+)\\)( "
      "rotate[^\"]*)?\"[^>]*font-size=\"([0-9.]+)"
      "\"\\s*text-anchor=\"(\\w+)\">\\s*<text>([^<]*)</text>");
  std::vector<SvgText> texts;
  for (auto it = std::sregex_iterator(svg.begin(), svg.end(), element);
       it != std::sregex_iterator(); ++it) {
    const std::smatch& m = *it;
    texts.push_back(
        {std::stod(m[1]), std::stod(m[2]), std::stod(m[4]), m[3].length() > 0, m[5], m[6]});
  }
  return texts;
}

// Characters of DejaVu Sans are 0.6 of its size wide, on average. A text is as long as that, and
// lies inside of the picture.
void expect_inside(const Picture& picture, const SvgText& t) {
  const double length = 0.6 * t.font * static_cast<double>(display_width(t.text));
  const double before = t.anchor == "start" ? 0 : t.anchor == "end" ? length : length / 2;
  const double middle = t.upright ? t.y : t.x, side = t.upright ? picture.height : picture.width;
  const std::string where = picture.name + ": " + t.text;
  // Upright texts go upwards.
  EXPECT_GE(middle - (t.upright ? length - before : before), -1) << where;
  EXPECT_LE(middle + (t.upright ? before : length - before), side + 1) << where;
  const double other = t.upright ? t.x : t.y;
  EXPECT_GE(other, t.font * 0.7) << where;
  EXPECT_LE(other, t.upright ? picture.width : picture.height) << where;
}

// Versions with names of any length, and every kind of figure.
std::vector<Plot> plots_of_versions(int count, const std::string& name) {
  ReportBuilder builder("t");
  builder.add(loss_record("/models/original", "none", 270000000, 30, 0, 0.002), "w", name + "o");
  for (int i = 1; i < count; ++i) {
    Json record = loss_record("/v" + std::to_string(i), "gptq", 270000000 / (1 + i % 7),
                              30 + 8.0 * (i % 5), 1.01 + 0.3 * (i % 5), 0.002 * (1 + i % 4));
    if (i % 3 != 0) add_joules(record, 1 + 0.1 * i, 0.9 + 0.1 * i, 1.2 + 0.1 * i, "estimated");
    if (i % 4 != 3) add_divergence(record, 0.001 * std::pow(2, i % 9), 0.0001);
    builder.add(record, "w", name + std::to_string(i));
  }
  Report report = builder.build();
  for (Version& version : report.versions) {
    version.making = Making();
    for (int block = 0; block < 6; ++block)
      version.making->modules.push_back({"m", block, 0.01 * (block + 1), 0.02, {}});
  }
  ModuleHistogram histogram{"model.layers.0.mlp.up_proj", 0, {-1, 1, {}, {}, 101, 101}};
  histogram.pair.before.assign(kHistogramBins, 1);
  histogram.pair.after.assign(kHistogramBins, 0);
  histogram.pair.after[50] = 101;
  return plots_of(report, {histogram});
}

TEST_F(GnuplotRun, TextsStayInsideOfThePicture) {
  for (const int count : {1, 2, 20}) {
    for (const std::string& name :
         {std::string("v"),
          std::string("a-model-of-some-kind-gptq-4bit-g128-act-order-lm-head-")}) {
      for (const bool captioned : {true, false}) {
        for (const Picture& picture :
             draw_plots(gnuplot_, plots_of_versions(count, name), captioned, false)) {
          const std::vector<SvgText> texts = texts_of(picture.svg);
          EXPECT_GE(texts.size(), 4u) << picture.name;
          for (const SvgText& text : texts) expect_inside(picture, text);
        }
      }
    }
  }
}

TEST_F(GnuplotRun, NamesValuesAndTitlesAreWrittenAsTheyAre) {
  const std::vector<Plot> plots = plots_of_versions(3, "%s 5 %% {x}_^y");
  for (const Picture& picture : draw_plots(gnuplot_, plots, true, false)) {
    std::set<std::string> texts;
    for (const SvgText& text : texts_of(picture.svg)) texts.insert(text.text);
    if (picture.name == "loss-against-bpw" || picture.name == "size" ||
        picture.name == "weight-error-by-block") {
      EXPECT_THAT(texts, Contains("%s 5 %% {x}_^y2")) << picture.name;
    }
    if (picture.name == "size") {
      EXPECT_THAT(texts, ::testing::IsSupersetOf({"Size (less is better)", "270 MB", "size / MB"}));
    }
  }
}

// What gnuplot takes for an empty range or no data: it draws all the same.
TEST_F(GnuplotRun, OddValuesAreDrawn) {
  std::vector<Plot> plots;
  const auto bars = [&](std::vector<std::optional<double>> values) {
    BarPlot plot{.axis = "x", .bars = {}};
    for (const auto& value : values) plot.bars.push_back({"b", "t", value, {}, 0, false});
    plots.push_back({"bars", "t", "", "", plot});
  };
  bars({0.0});
  bars({-3.0, 5.0});
  bars({-3.0, -5.0});
  bars({1e-12, std::nullopt});
  bars({9e12});
  bars({std::nullopt});
  const auto mark = [](double x, double y) {
    ScatterPlot::Mark one;
    one.label = "a";
    one.x = x;
    one.y = y;
    return one;
  };
  for (const bool log : {false, true}) {
    const ScatterPlot equal{"x", "y", log, {mark(2, 7), mark(2, 7)}};
    const ScatterPlot far{"x", "y", log, {mark(0, 1e-9), mark(1e9, 1e9)}};
    const LinePlot point{"x", "y", log, {{"a", {{3, 2e-7}}, 0}}};
    plots.push_back({"equal", "t", "", "", equal});
    plots.push_back({"far", "t", "", "", far});
    plots.push_back({"point", "t", "", "", point});
  }
  const auto pictures = draw_plots(gnuplot_, plots, true, true);
  for (size_t i = 0; i < plots.size(); ++i) {
    EXPECT_GE(texts_of(pictures[i].svg).size(), 3u) << i;
    EXPECT_EQ(pictures[i].svg.find("nan"), std::string::npos) << i;
  }
}

TEST(Drawing, TicksAreFewAndRound) {
  EXPECT_EQ(tick_step(1, 5), "0.2");
  EXPECT_EQ(tick_step(270, 4), "100");
  EXPECT_EQ(tick_step(9.9e-7, 4), "2.5e-07");
  EXPECT_EQ(tick_step(0, 4), "1");
}

TEST(GnuplotProgram, ItsOwnWordsAreInTheError) {
  const std::string program = "/tmp/qwb-gnuplot-" + std::to_string(getpid());
  std::ofstream(program) << "#!/bin/sh\necho 'line 3: it is broken' >&2\nexit 1\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  try {
    draw_plots(program, plots_of(small_report(), {}), true, false);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("line 3: it is broken"));
  }
  std::filesystem::remove(program);
}

}  // namespace
}  // namespace qwb::testing
