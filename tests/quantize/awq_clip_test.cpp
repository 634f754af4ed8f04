#include <gtest/gtest.h>

#include <limits>

#include "lib/exec/cpu/clip_rows.h"
#include "tests/quantize/awq_helper.h"

namespace qwb {
namespace {

double squared_output(const std::vector<double>& d, const std::vector<float>& hessian) {
  double sum = 0;
  for (size_t i = 0; i < d.size(); ++i) {
    for (size_t j = 0; j < d.size(); ++j) sum += d[i] * hessian[i * d.size() + j] * d[j];
  }
  return sum;
}

// All 11^2 pairs of factors for rows of two groups: what clip_rows finds group by group is close to
// the best pair, and often is it.
TEST(AwqClip, CloseToTheBestFactors) {
  const int64_t rows = 40, in = 20, group = 12;
  const std::vector<float> hessian = moments_of(correlated_inputs(80, in, 3), in),
                           weight = normal_values(rows * in, 9);
  const GridSettings grid = {3, group, false, DType::f32};
  const RoundedRows clipped = clip_tile({grid, 0, 1, square(hessian)}, weight);
  int optimal = 0;
  double found_sum = 0, best_sum = 0, plain_sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    double best = std::numeric_limits<double>::infinity(), plain = 0;
    for (int a = 0; a < 11; ++a) {
      for (int b = 0; b < 11; ++b) {
        std::vector<double> d;
        for (int64_t i = 0; i < in; ++i) {
          const float* w = weight.data() + r * in;
          const int64_t begin = i / group * group, end = std::min(begin + group, in);
          const auto [low, high] = std::minmax_element(w + begin, w + end);
          const double factor = 1 - 0.05 * (begin == 0 ? a : b);
          d.push_back(w[i] - rounded(w[i], std::min(*low, 0.0f) * factor,
                                     std::max(*high, 0.0f) * factor, 3));
        }
        const double error = squared_output(d, hessian);
        best = std::min(best, error);
        if (a == 0 && b == 0) plain = error;
      }
    }
    const double found = clipped.errors[static_cast<size_t>(r)];
    EXPECT_GE(found, best * (1 - 1e-3));
    EXPECT_LE(found, plain * (1 + 1e-4));
    optimal += found < best * (1 + 1e-3) ? 1 : 0;
    found_sum += found;
    best_sum += best;
    plain_sum += plain;
  }
  EXPECT_GT(optimal, rows / 2);
  EXPECT_LT(found_sum, 1.15 * best_sum);
  EXPECT_LT(found_sum, 0.8 * plain_sum);
}

// Rows of one group, all pairs of ends: what four passes find on their own comes close to the best
// pair.
TEST(AwqClip, EachEndByItself) {
  const int64_t rows = 40, in = 16;
  const std::vector<float> hessian = moments_of(correlated_inputs(80, in, 3), in),
                           weight = normal_values(rows * in, 5);
  const GridSettings grid = {3, in, false, DType::f32};
  const auto clipped = [&](int passes) {
    return clip_tile({grid, 0, passes, square(hessian)}, weight).errors;
  };
  const std::vector<double> common = clipped(1), ends = clipped(5);
  double best_sum = 0, common_sum = 0, ends_sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const float* w = weight.data() + r * in;
    const auto [low, high] = std::minmax_element(w, w + in);
    double best = std::numeric_limits<double>::infinity();
    for (int a = -4; a <= 30; ++a) {
      for (int b = -4; b <= 30; ++b) {
        std::vector<double> d;
        for (int64_t i = 0; i < in; ++i)
          d.push_back(w[i] - rounded(w[i], std::min(*low, 0.0f) * (1 - a / 40.0),
                                     std::max(*high, 0.0f) * (1 - b / 40.0), 3));
        best = std::min(best, squared_output(d, hessian));
      }
    }
    const auto row = static_cast<size_t>(r);
    EXPECT_GE(ends[row], best * (1 - 1e-3));
    EXPECT_LE(ends[row], common[row] * (1 + 1e-4));
    best_sum += best;
    common_sum += common[row];
    ends_sum += ends[row];
  }
  EXPECT_LT(ends_sum, 0.9 * common_sum);
  EXPECT_LT(ends_sum, 1.5 * best_sum);
}

TEST(AwqClip, LeavesQueriesAndKeysAlone) {
  AwqProblem p({150}, 32, outlier_inputs(60, 32, 8), {{"group_size", 16}}, 6);
  ModuleTask task = p.group.modules[0].task;
  task.query_key_rows = 100;
  const auto with = [&](const char* clip) {
    Json settings = p.settings;
    settings["clip"] = clip;
    return run_method("awq", task, settings);
  };
  const ModuleResult off = with("off"), values = with("values"), all = with("all");
  const auto codes = [](const ModuleResult& result) { return grid_codes(result.tensor); };
  const auto head = [](std::vector<uint8_t> v) {
    return std::vector<uint8_t>(v.begin(), v.begin() + 100 * 32);
  };
  EXPECT_EQ(head(codes(values)), head(codes(off)));
  EXPECT_NE(codes(values), codes(off));
  EXPECT_NE(head(codes(all)), head(codes(off)));
  EXPECT_EQ(off.details.at("clipped_groups"), 0);
  EXPECT_LE(*all.output_error, *values.output_error);
  EXPECT_LT(*values.output_error, *off.output_error);
  EXPECT_NEAR(*off.output_error, off.details.at("rounding_error").get<double>(), 1e-9);
}

}  // namespace
}  // namespace qwb
