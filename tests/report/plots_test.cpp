// Which pictures there are, and what they show.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/report/histogram.h"
#include "lib/report/plot.h"
#include "tests/report/record_helper.h"

namespace qwb::testing {
namespace {

using namespace report;

using ::testing::HasSubstr;

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
