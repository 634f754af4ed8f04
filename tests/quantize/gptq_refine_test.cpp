// What follows GPTQ: coordinate descent over the codes, scales fitted again, the original model's
// outputs as the aim, biases that take up the means.
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "tests/quantize/demo_helper.h"
#include "tests/quantize/gptq_helper.h"

namespace qwb {
namespace {

GptqSettings settings_with(int sweeps, int64_t group, bool symmetric, ColumnOrder order, int bits) {
  GptqSettings settings;
  settings.grid = {bits, group, symmetric, DType::f32};
  settings.order = order;
  settings.sweeps = sweeps;
  return settings;
}

struct Case {
  int64_t out, in, group;
  bool symmetric;
  ColumnOrder order;
};
const Case kCases[] = {{70, 96, 32, true, ColumnOrder::group_aware},
                       {33, 300, 128, false, ColumnOrder::group_aware},
                       {20, 390, 192, true, ColumnOrder::group_aware},  // groups across blocks
                       {9, 260, 260, false, ColumnOrder::group_aware},  // one group a row
                       {40, 200, 48, true, ColumnOrder::static_groups},
                       {5, 129, 16, false, ColumnOrder::sequential}};

double form(const float* d, const std::vector<double>& h, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    double row = 0;
    for (int64_t j = 0; j < n; ++j) row += h[i * n + j] * d[j];
    sum += row * d[i];
  }
  return sum;
}

TEST(SlowGptqRefine, NeverRaisesTheErrorOfARowAndUsuallyLowersIt) {
  for (const Case& c : kCases) {
    const auto weight = normal_values(c.out * c.in, 1);
    const auto hessian = moments_of(correlated_inputs(500, c.in, 2), c.in);
    const std::vector<double> h = damped(hessian, c.in, 0.01);
    double before = 0, after = 0;
    const GptqSettings plain = settings_with(0, c.group, c.symmetric, c.order, 3);
    const GptqSettings refined = settings_with(4, c.group, c.symmetric, c.order, 3);
    const PreparedMoments moments = prepared(hessian, plain);
    for (int64_t o = 0; o < c.out; o += kRowLanes) {
      const int64_t rows = std::min(kRowLanes, c.out - o);
      const SolvedRows a =
          solve_rows(solver_task(moments, plain), weight.data() + o * c.in, 0, rows);
      const SolvedRows b =
          solve_rows(solver_task(moments, refined), weight.data() + o * c.in, 0, rows);
      for (int64_t r = 0; r < rows; ++r) {
        const double x = form(a.difference.data() + r * c.in, h, c.in),
                     y = form(b.difference.data() + r * c.in, h, c.in);
        EXPECT_LE(y, x * (1 + 1e-4)) << c.in << " row " << o + r;
        before += x;
        after += y;
      }
    }
    EXPECT_LT(after, 0.97 * before) << c.in;
  }
}

// After the descent has settled, no other code at any one place is better.
TEST(SlowGptqRefine, NoSingleCodeCanBeImproved) {
  const int64_t in = 150, rows = 11;
  const auto weight = normal_values(rows * in, 3);
  const auto hessian = moments_of(correlated_inputs(400, in, 4), in);
  const std::vector<double> h = damped(hessian, in, 0.01);
  // Static groups: their scales stay, so that only codes move.
  const GptqSettings settings = settings_with(50, 50, true, ColumnOrder::static_groups, 3);
  const PreparedMoments moments = prepared(hessian, settings);
  const SolvedRows solved = solve_rows(solver_task(moments, settings), weight.data(), 0, rows);
  int improvable = 0;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<float> d(solved.difference.data() + r * in,
                         solved.difference.data() + (r + 1) * in);
    const double now = form(d.data(), h, in);
    for (int64_t i = 0; i < in; ++i) {
      const Grid grid = solved.grids[static_cast<size_t>(r * 3 + i / 50)];
      const float kept = d[i];
      for (int code = 0; code < 8; ++code) {
        d[i] = weight[r * in + i] - grid_value(static_cast<uint8_t>(code), grid);
        improvable += form(d.data(), h, in) < now * (1 - 1e-5) ? 1 : 0;
      }
      d[i] = kept;
    }
  }
  EXPECT_EQ(improvable, 0);
}

// The values that come back are those of the codes and scales that come back.
TEST(SlowGptqRefine, DifferenceBelongsToCodesAndScales) {
  for (const Case& c : kCases) {
    const auto weight = normal_values(c.out * c.in, 5);
    const auto hessian = moments_of(correlated_inputs(300, c.in, 6), c.in);
    const GptqSettings settings = settings_with(4, c.group, c.symmetric, c.order, 4);
    const PreparedMoments moments = prepared(hessian, settings);
    const int64_t rows = std::min(kRowLanes, c.out), groups = settings.grid.groups(c.in);
    const SolvedRows solved = solve_rows(solver_task(moments, settings), weight.data(), 0, rows);
    for (int64_t k = 0; k < rows * c.in; ++k) {
      const Grid grid = solved.grids[static_cast<size_t>(k / c.in * groups + k % c.in / c.group)];
      const float value = grid_value(solved.codes[static_cast<size_t>(k)], grid);
      ASSERT_NEAR(solved.difference[k], weight[k] - value, 1e-5) << c.in << " " << k;
    }
  }
}

// Inputs of the original and of the quantized model, how far apart the streams are that the module
// adds to, and everything made from them.
struct Followed {
  int64_t tokens = 700, in, out;
  std::vector<float> weight;
  std::vector<float> x, original, residual;  // [tokens, in], [tokens, in], [tokens, out]
  std::vector<float> hessian, drift, wanted;
  Moments moments;

  // adds: the module adds to the stream.
  Followed(int64_t inputs, int64_t outputs, bool adds, bool centred)
      : in(inputs), out(outputs), weight(normal_values(out * in, 14)) {
    original = correlated_inputs(tokens, in, 11);
    x = original;
    const auto noise = normal_values(tokens * in, 12);
    for (size_t k = 0; k < x.size(); ++k) x[k] = 0.9f * x[k] + 0.1f * noise[k] + 0.5f;
    residual = normal_values(tokens * out, 13);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t o = 0; o < out; ++o)
        residual[t * out + o] = adds ? 0.2f * residual[t * out + o] + 0.3f * x[t * in + o] : 0.0f;
    }
    gather(adds, centred);
  }

  // What the original gives of a token, and what it differs by in the stream.
  double answer(int64_t token, int64_t o) const {
    double sum = residual[token * out + o];
    for (int64_t i = 0; i < in; ++i)
      sum += static_cast<double>(weight[o * in + i]) * original[token * in + i];
    return sum;
  }

  void gather(bool adds, bool centred) {
    const int64_t aims = adds ? out : in;
    std::vector<double> mean_x(in), mean_aim(aims), h(in * in), cross(aims * in);
    const auto aim = [&](int64_t t, int64_t k) {
      return adds ? answer(t, k) : static_cast<double>(original[t * in + k]) - x[t * in + k];
    };
    for (int64_t t = 0; centred && t < tokens; ++t) {
      for (int64_t i = 0; i < in; ++i) mean_x[i] += x[t * in + i] / static_cast<double>(tokens);
      for (int64_t k = 0; k < aims; ++k) mean_aim[k] += aim(t, k) / static_cast<double>(tokens);
    }
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<double> aimed(aims);
      for (int64_t k = 0; k < aims; ++k) aimed[k] = aim(t, k) - mean_aim[k];
      for (int64_t j = 0; j < in; ++j) {
        const double xj = x[t * in + j] - mean_x[j];
        for (int64_t i = 0; i < in; ++i) h[i * in + j] += (x[t * in + i] - mean_x[i]) * xj;
        for (int64_t k = 0; k < aims; ++k) cross[k * in + j] += aimed[k] * xj;
      }
    }
    hessian.assign(h.begin(), h.end());
    (adds ? wanted : drift).assign(cross.begin(), cross.end());
    moments.tokens = tokens;
    set_hessian(moments, hessian);
    (adds ? moments.wanted : moments.drift) = rows_of(std::as_const(adds ? wanted : drift), in);
    moments.centred = centred;
    if (!centred) return;
    moments.input_mean.assign(mean_x.begin(), mean_x.end());
    (adds ? moments.wanted_mean : moments.drift_mean).assign(mean_aim.begin(), mean_aim.end());
  }

  // Squared distance between what the original adds to its stream and what the quantized module,
  // with its bias shifted, adds to the other, over its norm.
  double error(const std::vector<float>& values, const std::vector<float>& shift) const {
    double sum = 0, norm = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t o = 0; o < out; ++o) {
        const double due = answer(t, o);
        double given = shift.empty() ? 0 : shift[o];
        for (int64_t i = 0; i < in; ++i)
          given += static_cast<double>(values[o * in + i]) * x[t * in + i];
        sum += (due - given) * (due - given);
        norm += due * due;
      }
    }
    return sum / norm;
  }
};

// The aim against the normal equations, solved by plain elimination in f64.
TEST(GptqCorrection, AimSolvesTheNormalEquations) {
  for (const bool adds : {false, true}) {
    const Followed f(140, 30, adds, false);
    const GptqSettings settings = settings_with(0, 35, true, ColumnOrder::group_aware, 8);
    const PreparedMoments moments = prepared(f.hessian, settings);
    GptqTask task = solver_task(moments, settings);
    task.drift = f.moments.drift;
    task.wanted = f.moments.wanted;
    task.hessian = f.moments.hessian;
    task.strength = 1;
    const SolvedRows solved = solve_rows(task, f.weight.data(), 0, f.out);
    const std::vector<double> h = damped(f.hessian, f.in, settings.damping);
    // (aim - W) H, damped, must equal W D or Y - W H.
    double worst = 0, largest = 0;
    for (int64_t o = 0; o < f.out; ++o) {
      for (int64_t j = 0; j < f.in; ++j) {
        double left = 0, right = adds ? f.wanted[o * f.in + j] : 0;
        for (int64_t i = 0; i < f.in; ++i) {
          const double weight = f.weight[o * f.in + i];
          left += (static_cast<double>(solved.aim[o * f.in + i]) - weight) * h[i * f.in + j];
          right += weight * (adds ? -f.hessian[i * f.in + j] : f.drift[i * f.in + j]);
        }
        worst = std::max(worst, std::fabs(left - right));
        largest = std::max(largest, std::fabs(right));
      }
    }
    EXPECT_LT(worst, 1e-3 * largest) << adds;
  }
}

TEST(SlowGptqCorrection, FollowsTheOriginalsOutput) {
  for (const int kind : {0, 1, 2, 3}) {
    const bool adds = kind / 2 == 1, centred = kind % 2 == 1;
    const Followed f(140, 30, adds, centred);
    const Tensor tensor = make_tensor(f.weight, {f.out, f.in});
    ModuleTask task = make_task("m", tensor.view());
    task.moments = &f.moments;
    const Json plain = {{"refine", "codes"}, {"group_size", 35}}, full = {{"group_size", 35}};
    const ModuleResult before = run_method("gptq", task, plain),
                       after = run_method("gptq", task, full);
    EXPECT_EQ(after.bias_shift.size(), centred ? 30u : 0u);
    EXPECT_TRUE(before.bias_shift.empty());
    const double without = f.error(dequantize(before.tensor), {}),
                 with = f.error(dequantize(after.tensor), after.bias_shift);
    EXPECT_LT(with, 0.5 * without) << kind;
    if (!centred) continue;
    // The shift leaves no mean error: moving it either way is worse.
    for (const float step : {-0.05f, 0.05f}) {
      std::vector<float> moved = after.bias_shift;
      for (float& value : moved) value += step;
      EXPECT_GT(f.error(dequantize(after.tensor), moved), with) << kind;
    }
  }
}

TEST(GptqRefine, NeverWorseThanPlainRoundingOnTheCalibrationData) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const int64_t out = 6, in = 64;
    const auto weight = normal_values(out * in, seed);
    const auto hessian =
        moments_of(correlated_inputs(5 + static_cast<int64_t>(seed) * 20, in, seed), in);
    const Tensor tensor = make_tensor(weight, {out, in});
    Moments moments;
    set_hessian(moments, hessian);
    moments.tokens = 5;
    ModuleTask task = make_task("m", tensor.view());
    task.moments = &moments;
    for (const int bits : {2, 3, 8}) {
      for (const char* refine : {"off", "codes", "full"}) {
        const ModuleResult result =
            run_method("gptq", task, {{"bits", bits}, {"group_size", 16}, {"refine", refine}});
        const double rounding = result.details["rounding_error"].get<double>();
        EXPECT_LE(*result.output_error, rounding) << bits << refine << seed;
        const auto rtn =
            run_method("rtn", task, {{"bits", bits}, {"group_size", 16}, {"scale_dtype", "f16"}});
        EXPECT_NEAR(rounding, output_error(weight, dequantize(rtn.tensor), in, hessian),
                    1e-3 * rounding);
      }
    }
  }
}

}  // namespace
}  // namespace qwb
