// Which pictures there are, that their labels do not cover each other, and that gnuplot draws them
// as they are written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/report/gnuplot.h"
#include "lib/report/gnuplot_script.h"
#include "lib/report/histogram.h"
#include "lib/report/label_placement.h"
#include "lib/report/plot_canvas.h"
#include "tests/report/record_helper.h"

namespace qwb::testing {
namespace {

using namespace report;

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

Report small_report() {
  Json original = loss_record("/models/original", "none", 9000000, 30, 0, 0.002);
  Json a = loss_record("/a", "rtn", 3000000, 33, 1.1, 0.002),
       b = loss_record("/b", "gptq", 2000000, 31, 1.02, 0.002);
  add_joules(a, 2, 1.9, 2.1, "estimated");
  add_joules(b, 1, 0.9, 1.1, "estimated");
  add_divergence(a, 0.1, 0.01);
  add_divergence(b, 0.02, 0.001);
  return report_of({original, a, b});
}

TEST(Plots, TheOnesThatTheFiguresAllow) {
  std::set<std::string> names;
  for (const Plot& plot : plots_of(small_report(), {})) {
    EXPECT_TRUE(names.insert(plot.name).second) << plot.name;
    EXPECT_FALSE(plot.title.empty());
  }
  EXPECT_EQ(names, (std::set<std::string>{
                       "size", "bpw", "perplexity", "loss", "kl", "joules_generated",
                       "loss-against-size", "perplexity-against-bpw", "loss-against-bpw",
                       "kl-against-bpw", "perplexity-against-joules_generated",
                       "loss-against-joules_generated", "kl-against-joules_generated"}));
}

TEST(Plots, TheFrontIsMarkedAndTheOriginalStandsAtZero) {
  for (const Plot& plot : plots_of(small_report(), {})) {
    if (plot.name != "loss-against-bpw") continue;
    const auto& scatter = std::get<ScatterPlot>(plot.content);
    ASSERT_EQ(scatter.marks.size(), 3u);
    EXPECT_EQ(scatter.marks[0].y, 0);
    EXPECT_FALSE(scatter.marks[0].y_bounds.has_value());
    EXPECT_TRUE(scatter.marks[0].front);
    EXPECT_FALSE(scatter.marks[1].front);
    EXPECT_TRUE(scatter.marks[2].front);
    EXPECT_NEAR(scatter.marks[2].y, 2, 1e-9);
    EXPECT_THAT(plot.summary, HasSubstr("original, b"));
  }
}

TEST(Plots, EstimatesAreMarkedAndAbsentBarsSayWhy) {
  for (const Plot& plot : plots_of(small_report(), {})) {
    if (plot.name == "joules_generated") {
      const auto& bars = std::get<BarPlot>(plot.content);
      EXPECT_EQ(bars.bars[0].text, "n/a: not measured (qwb-eval --energy)");
      EXPECT_FALSE(bars.bars[0].value.has_value());
      EXPECT_TRUE(bars.bars[1].estimated);
      EXPECT_EQ(bars.bars[1].text, "~2.00 J");
    }
    if (plot.name == "kl-against-joules_generated") {
      EXPECT_THAT(std::get<ScatterPlot>(plot.content).x_axis, HasSubstr("(estimated)"));
    }
  }
}

TEST(Plots, StylesDifferInColourOrShape) {
  std::set<std::pair<std::string, int>> styles;
  for (size_t i = 0; i < 42; ++i) {
    EXPECT_TRUE(styles.insert({style_color(i), style_point(i, true)}).second) << i;
    EXPECT_NE(style_point(i, true), style_point(i, false));
  }
}

TEST(Plots, AxesHoldTheirValues) {
  for (const auto& [low, high] :
       {std::pair{0.0, 1e-9}, {-3.0, 5.0}, {7.0, 7.0}, {0.0, 0.0}, {31.0, 31.01}, {1e6, 9e9}}) {
    for (const bool from_ticks : {false, true}) {
      const Axis axis = linear_axis(low, high, 5, from_ticks);
      EXPECT_LT(axis.low, axis.high);
      EXPECT_LE(axis.low, low);
      EXPECT_GE(axis.high, high);
      EXPECT_GE(axis.ticks.size(), 2u) << low << " " << high;
      EXPECT_LE(axis.ticks.size(), 8u) << low << " " << high;
    }
  }
  for (const auto& [low, high] : {std::pair{0.001, 5000.0}, {30.0, 200.0}, {2.0, 2.0}}) {
    const Axis axis = log_axis(low, high);
    EXPECT_LT(axis.low, low);
    EXPECT_GT(axis.high, high);
    EXPECT_LE(axis.ticks.size(), 9u);
    EXPECT_NEAR(axis.place(axis.high), 1, 1e-9);
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

TEST(Texts, AreWrappedAndCutToTheirPlace) {
  const auto lines = wrapped("one two three four five six seven", 60, 10, 3);
  ASSERT_EQ(lines.size(), 3u);
  for (const std::string& line : lines) EXPECT_LE(text_width(line, 10), 60 + 1e-9);
  EXPECT_TRUE(lines[2].ends_with("…"));
  EXPECT_THAT(wrapped("", 60, 10, 3), ::testing::IsEmpty());
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

// --- histograms

Weight dense(const std::vector<float>& values, int64_t columns) {
  const auto rows = static_cast<int64_t>(values.size()) / columns;
  return {rows, columns, Orientation::out_in,
          DenseWeight{{DType::f32,
                       {rows, columns},
                       {reinterpret_cast<const std::byte*>(values.data()), values.size() * 4}}}};
}

TEST(Histogram, CountsEveryValueInItsBin) {
  Rng rng(3);
  std::vector<float> before, after;
  for (int i = 0; i < 700 * 1000; ++i) {
    before.push_back(static_cast<float>(rng.uniform() - 0.4));
    after.push_back(static_cast<float>(std::round(before.back() * 4) / 4));
  }
  const HistogramPair pair = histogram_pair(dense(before, 1000), dense(after, 1000), "m");
  EXPECT_EQ(pair.low, -pair.high);
  std::vector<int64_t> expected(kHistogramBins, 0);
  for (const float value : before) {
    const double place = (value - pair.low) / (pair.high - pair.low) * kHistogramBins;
    ++expected[static_cast<size_t>(std::min<double>(place, kHistogramBins - 1))];
  }
  EXPECT_EQ(pair.before, expected);
  int filled = 0;
  for (const int64_t n : pair.after) filled += n > 0 ? 1 : 0;
  EXPECT_EQ(filled, 5);  // -0.5 -0.25 0 0.25 0.5, the ends half as often
}

TEST(Histogram, NansAndOtherSizesAreErrorsThatNameTheModule) {
  const std::vector<float> good(64, 0.5f), more(128, 0.5f), zero(64, 0.0f);
  std::vector<float> bad = good;
  bad[63] = std::nanf("");
  const auto complaint = [](const std::vector<float>& a, const std::vector<float>& b) {
    try {
      histogram_pair(dense(a, 8), dense(b, 8), "blk.7.up");
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_THAT(complaint(good, bad), HasSubstr("blk.7.up"));
  EXPECT_THAT(complaint(bad, good), HasSubstr("NaN or Inf"));
  EXPECT_THAT(complaint(good, more), HasSubstr("different matrices"));
  EXPECT_EQ(complaint(zero, zero), "");
}

}  // namespace
}  // namespace qwb::testing
