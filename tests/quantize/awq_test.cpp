#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/base/parallel.h"
#include "lib/quantize/awq_rounding.h"
#include "lib/quantize/awq_search.h"
#include "tests/quantize/demo_helper.h"
#include "tests/quantize/gptq_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

// One stage: modules of these numbers of rows, all reading the same inputs through a norm.
struct Problem {
  int64_t in;
  std::vector<float> inputs, hessian;
  std::vector<Tensor> weights;
  Settings settings;
  Moments moments;
  StageTask stage;

  Problem(std::vector<int64_t> rows, int64_t columns, std::vector<float> x, const Json& given, uint64_t seed)
      : in(columns), inputs(std::move(x)), settings(resolve_settings(find_method("awq"), given)) {
    const int64_t tokens = static_cast<int64_t>(inputs.size()) / in;
    hessian = moments_of(inputs, in);
    moments.hessian = hessian.data();
    moments.tokens = tokens;
    for (int64_t i = 0; i < in; ++i) {
      double sum = 0;
      for (int64_t t = 0; t < tokens; ++t) sum += std::abs(inputs[t * in + i]);
      moments.input_magnitude.push_back(static_cast<float>(sum / static_cast<double>(tokens)));
      stage.scale_of.push_back(i);
    }
    for (const int64_t out : rows) weights.push_back(make_tensor(normal_values(out * in, seed++), {out, in}));
    stage.scales = in;
    stage.moments = &moments;
    stage.gains.assign(static_cast<size_t>(in), 1.0f);
    stage.divided = stage.gains;
    connect();
  }
  void connect() {
    stage.modules.clear();
    for (size_t m = 0; m < weights.size(); ++m) {
      ModuleTask task = make_task("module" + std::to_string(m), weights[m].view());
      task.moments = &moments;
      stage.modules.push_back({task, &settings});
    }
  }
  float* weight(size_t m) { return weights[m].data<float>(); }
};

// Activations whose channels differ much, as AWQ expects them.
std::vector<float> outlier_inputs(int64_t tokens, int64_t columns, uint64_t seed) {
  std::vector<float> x = correlated_inputs(tokens, columns, seed);
  for (size_t k = 0; k < x.size(); ++k) {
    if (k % static_cast<size_t>(columns) % 11 == 3) x[k] *= 20;
  }
  return x;
}

// Relative output error of the modules after awq with these scales.
double error_with(const Problem& problem, const std::vector<float>& scales,
                  const std::string& method = "awq") {
  FoldedScales folded;
  folded.columns = scales;
  std::vector<float> hessian = problem.hessian;
  for (int64_t i = 0; !scales.empty() && i < problem.in; ++i) {
    for (int64_t j = 0; j < problem.in; ++j) hessian[i * problem.in + j] /= scales[i] * scales[j];
  }
  Moments moments = problem.moments;
  moments.hessian = hessian.data();
  double error = 0;
  for (const StageTask::Module& module : problem.stage.modules) {
    ModuleTask task = module.task;
    task.moments = &moments;
    task.folded = scales.empty() ? nullptr : &folded;
    Json settings = problem.settings;
    if (method == "rtn") {
      settings.erase("clip");
      settings.erase("scale_channels");
    }
    const ModuleResult result = run_method(method, task, settings);
    const std::vector<float> values = dequantize(result.tensor);
    const std::vector<float> weight = read_floats(task.weight, "w");
    const int64_t out = task.info.out, in = problem.in;
    for (int64_t o = 0; o < out; ++o) {
      for (size_t t = 0; t < problem.inputs.size() / static_cast<size_t>(in); ++t) {
        double y = 0;
        for (int64_t i = 0; i < in; ++i) {
          const double value = scales.empty() ? values[o * in + i] : values[o * in + i] / scales[i];
          y += (value - weight[o * in + i]) * problem.inputs[t * static_cast<size_t>(in) + i];
        }
        error += y * y;
      }
    }
  }
  return error;
}

// ---- the search against its definition, token by token in f64 ----

double rounded(double value, double low, double high, int bits) {
  const float scale = static_cast<float>(high - low) / static_cast<float>((1 << bits) - 1);
  if (scale == 0) return 0;
  const double zero = std::nearbyint(std::min(std::max(-low / scale, 0.0), std::exp2(bits) - 1));
  const double code = std::min(std::max(std::nearbyint(value / scale), -zero), std::exp2(bits) - 1 - zero);
  return code * scale;
}

// Sum over modules and tokens of |(Q(W s) / s - W) x|^2.
double reference_error(Problem& p, const std::vector<double>& s, int64_t group, int bits) {
  double error = 0;
  for (size_t m = 0; m < p.weights.size(); ++m) {
    const int64_t out = p.weights[m].shape()[0];
    for (int64_t o = 0; o < out; ++o) {
      const float* w = p.weight(m) + o * p.in;
      std::vector<double> difference;
      for (int64_t i = 0; i < p.in; ++i) {
        const int64_t begin = i / group * group, end = std::min(begin + group, p.in);
        double low = 0, high = 0;
        for (int64_t k = begin; k < end; ++k) {
          low = std::min(low, w[k] * s[k]);
          high = std::max(high, w[k] * s[k]);
        }
        difference.push_back(rounded(w[i] * s[i], low, high, bits) / s[i] - w[i]);
      }
      for (size_t t = 0; t < p.inputs.size(); t += static_cast<size_t>(p.in)) {
        double y = 0;
        for (int64_t i = 0; i < p.in; ++i) y += difference[i] * p.inputs[t + i];
        error += y * y;
      }
    }
  }
  return error;
}

struct ReferenceSearch {
  std::string kind = "none";
  double ratio = 0, plain = 0, error = 0;
  std::vector<double> scales;
};

ReferenceSearch reference_search(Problem& p, int64_t group, int bits) {
  std::vector<double> relative(static_cast<size_t>(p.in));
  double rows = 0;
  for (size_t m = 0; m < p.weights.size(); ++m) {
    for (int64_t o = 0; o < p.weights[m].shape()[0]; ++o, ++rows) {
      for (int64_t i = 0; i < p.in; ++i) {
        double most = 0;
        for (int64_t k = i / group * group; k < std::min((i / group + 1) * group, p.in); ++k)
          most = std::max(most, std::abs(static_cast<double>(p.weight(m)[o * p.in + k])));
        relative[i] += std::abs(p.weight(m)[o * p.in + i]) / most;
      }
    }
  }
  ReferenceSearch best;
  best.plain = best.error =
      reference_error(p, std::vector<double>(static_cast<size_t>(p.in), 1.0), group, bits);
  for (const std::string kind : {"activations", "both"}) {
    for (int step = 0; step < 20; ++step) {
      const double r = 0.05 * step;
      std::vector<double> s;
      for (int64_t i = 0; i < p.in; ++i) {
        s.push_back(std::pow(static_cast<double>(p.moments.input_magnitude[i]), r));
        if (kind == "both") s.back() /= std::pow(relative[i] / rows, 1 - r) + 1e-4;
      }
      const double middle =
          std::sqrt(*std::max_element(s.begin(), s.end()) * *std::min_element(s.begin(), s.end()));
      for (double& value : s) value /= middle;
      const double error = reference_error(p, s, group, bits);
      if (error < best.error) best = {kind, r, best.plain, error, s};
    }
  }
  return best;
}

TEST(Awq, FindsTheScalesOfItsDefinition) {
  int scaled = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const int64_t group = seed % 2 == 0 ? 24 : 10;  // 10: the last group is partial
    const int bits = seed % 3 == 0 ? 3 : 4;
    Problem p({9, 5}, 24, outlier_inputs(40, 24, seed),
              {{"bits", bits}, {"group_size", group}, {"scale_dtype", "f32"}, {"clip", "off"}}, seed);
    const StageScales found = search_scales(p.stage);
    const ReferenceSearch reference = reference_search(p, group, bits);
    ASSERT_EQ(found.details.at("scaling"), reference.kind) << seed;
    if (found.scales.empty()) continue;
    ++scaled;
    EXPECT_NEAR(found.details.at("ratio").get<double>(), reference.ratio, 1e-9);
    // f32 weights times f32 scales may round the other way at the middle between two codes.
    EXPECT_NEAR(found.details.at("stage_error").get<double>(), reference.error / reference.plain, 1e-3);
    for (int64_t i = 0; i < p.in; ++i)
      EXPECT_NEAR(found.scales[i], reference.scales[i], 1e-5 * found.scales[i]);
  }
  EXPECT_GE(scaled, 4);
}

TEST(Awq, NeverWorseThanRounding) {
  double gained = 0;
  int problems = 0;
  for (const int bits : {2, 3, 4, 8}) {
    for (const int64_t group : {int64_t{16}, int64_t{40}, int64_t{-1}}) {
      for (const bool symmetric : {false, true}) {
        Problem p({30, 70}, 96, outlier_inputs(300, 96, static_cast<uint64_t>(bits)),
                  {{"bits", bits}, {"group_size", group}, {"symmetric", symmetric}}, 3);
        const double rtn = error_with(p, {}, "rtn"), clipped = error_with(p, {});
        const StageScales found = search_scales(p.stage);
        const double awq = error_with(p, found.scales);
        EXPECT_LE(clipped, rtn * (1 + 1e-6)) << bits << " " << group;
        EXPECT_LE(awq, clipped * (1 + 1e-6)) << bits << " " << group;
        gained += std::log(awq / rtn);
        ++problems;
      }
    }
  }
  // Inputs with outliers are what it is for: a third of the error goes, in the mean.
  EXPECT_LT(std::exp(gained / problems), 0.67);
}

// Weights that no scale can serve better: each is on the grid already.
TEST(Awq, LeavesAloneWhatIsExact) {
  Problem p({8}, 32, outlier_inputs(50, 32, 4), {{"group_size", 16}, {"scale_dtype", "f32"}}, 1);
  for (int64_t k = 0; k < 8 * 32; ++k) p.weight(0)[k] = static_cast<float>(k * 7 % 16 - 8);
  const StageScales found = search_scales(p.stage);
  EXPECT_TRUE(found.scales.empty());
  EXPECT_EQ(found.details.at("scaling"), "none");
}

TEST(Awq, SilentChannelsAndEmptyColumns) {
  std::vector<float> x = outlier_inputs(60, 32, 8);
  for (size_t k = 0; k < x.size(); ++k) {
    if (k % 32 == 5 || k % 32 > 27) x[k] = 0;
  }
  Problem p({20}, 32, x, {{"group_size", 16}}, 6);
  for (int64_t o = 0; o < 20; ++o) p.weight(0)[o * 32 + 9] = 0;
  const StageScales found = search_scales(p.stage);
  ASSERT_FALSE(found.scales.empty());
  for (const float scale : found.scales) {
    EXPECT_TRUE(std::isfinite(scale));
    EXPECT_GT(scale, 0);
  }
  // No tokens at all, and no weights at all.
  Problem silent({20}, 32, std::vector<float>(64), {{"group_size", 16}}, 6);
  EXPECT_TRUE(search_scales(silent.stage).scales.empty());
  EXPECT_LT(run_method("awq", silent.stage.modules[0].task, silent.settings).weight_error, 0.02);
  Problem zeros({20}, 32, x, {{"group_size", 16}}, 6);
  std::fill_n(zeros.weight(0), 20 * 32, 0.0f);
  EXPECT_TRUE(search_scales(zeros.stage).scales.empty());
  EXPECT_EQ(run_method("awq", zeros.stage.modules[0].task, zeros.settings).weight_error, 0);
}

// What is divided and what is multiplied stays within f16, whatever the activations ask for.
TEST(Awq, ScalesKeepToHalfPrecision) {
  std::vector<float> x = outlier_inputs(60, 32, 8);
  for (size_t k = 0; k < x.size(); ++k) {
    if (k % 32 == 4) x[k] *= 1e9f;
    if (k % 32 == 6) x[k] *= 1e-9f;
  }
  Problem p({20}, 32, x, {{"group_size", 16}}, 6);
  for (int64_t o = 0; o < 20; ++o) p.weight(0)[o * 32 + 4] = 3000;
  for (int64_t o = 0; o < 20; ++o) p.weight(0)[o * 32 + 6] = 1e-3f;
  p.stage.gains[6] = p.stage.divided[6] = 30000;
  p.stage.gains[7] = p.stage.divided[7] = 1e-3f;
  const ScaleStatistics statistics = {
      std::vector<double>(p.moments.input_magnitude.begin(), p.moments.input_magnitude.end()),
      std::vector<double>(32, 0.5), [] {
        std::vector<float> largest(32, 3.0f);
        largest[4] = 3000;
        return largest;
      }()};
  const std::vector<ScaleCandidate> candidates = scale_candidates(p.stage, statistics);
  EXPECT_GT(candidates.size(), 30u);
  double widest = 1;
  for (const ScaleCandidate& candidate : candidates) {
    for (size_t k = 0; k < candidate.scales.size(); ++k) {
      const float scale = candidate.scales[k];
      EXPECT_LE(p.stage.divided[k] / scale, 32768.5f);
      EXPECT_GE(p.stage.divided[k] / scale, 0x1p-14f * 0.999f);
      EXPECT_LE(statistics.largest_weight[k] * scale, 32768.5f);
      widest = std::max(widest, static_cast<double>(scale));
    }
  }
  EXPECT_GT(widest, 5);
  const StageScales found = search_scales(p.stage);
  EXPECT_LE(error_with(p, found.scales), error_with(p, {}, "rtn") * (1 + 1e-6));
}

// gain / scale is what the checkpoint's type holds, so that scaling loses nothing in the norm.
TEST(Awq, GainsAreStoredExactly) {
  Problem p({20}, 32, outlier_inputs(60, 32, 8), {{"group_size", 16}}, 6);
  for (const DType type : {DType::bf16, DType::f16}) {
    p.stage.gain_type = type;
    for (int64_t i = 0; i < 32; ++i)
      p.stage.gains[i] = p.stage.divided[i] = i == 3 ? 0 : 0.25f + static_cast<float>(i) / 16;
    const StageScales found = search_scales(p.stage);
    ASSERT_FALSE(found.scales.empty());
    EXPECT_EQ(found.scales[3], 1);
    for (int64_t i = 0; i < 32; ++i) {
      if (i == 3) continue;
      const float stored = p.stage.gains[i] / found.scales[i];
      const float mantissa =
          std::frexp(stored, std::make_unique<int>().get()) * (type == DType::bf16 ? 256.f : 2048.f);
      EXPECT_NEAR(mantissa, std::nearbyint(mantissa), 1e-3);
    }
  }
}

TEST(Awq, WhatIsNotFinite) {
  Problem p({20}, 32, outlier_inputs(60, 32, 8), {{"group_size", 16}}, 6);
  p.moments.input_magnitude[3] = std::numeric_limits<float>::infinity();
  for (const bool nan : {false, true}) {
    if (nan) p.moments.input_magnitude[3] = std::numeric_limits<float>::quiet_NaN();
    const StageScales found = search_scales(p.stage);  // only r = 0 of "both" does not look at the magnitudes
    for (const float scale : found.scales) EXPECT_TRUE(std::isfinite(scale));
  }
  p.hessian[5 * 32 + 5] = std::numeric_limits<float>::quiet_NaN();
  const auto message = [&](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::failed);
      return std::string(error.what());
    }
    return "no error";
  };
  EXPECT_THAT(message([&] { search_scales(p.stage); }), HasSubstr("module0"));
  EXPECT_THAT(message([&] { run_method("awq", p.stage.modules[0].task, p.settings); }), HasSubstr("module0"));
  ModuleTask no_tokens = p.stage.modules[0].task;
  no_tokens.moments = nullptr;
  EXPECT_THAT(message([&] { run_method("awq", no_tokens, p.settings); }), HasSubstr("no calibration token"));
}

TEST(Awq, OneToken) {
  Problem p({20}, 32, outlier_inputs(1, 32, 8), {{"group_size", 16}, {"bits", 3}}, 6);
  const StageScales found = search_scales(p.stage);
  EXPECT_LE(error_with(p, found.scales), error_with(p, {}, "rtn"));
}

TEST(Awq, AGroupLongerThanTheRowIsRefused) {
  const Method& awq = find_method("awq");
  const ModuleInfo info = {"narrow", 8, 32, Orientation::out_in, DType::f32, false};
  try {
    awq.storage(info, resolve_settings(awq, Json::object()));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_THAT(std::string(error.what()), HasSubstr("narrow"));
  }
}

TEST(Awq, SameBitsAtAnyNumberOfThreads) {
  const int before = threads();
  std::vector<std::string> results;
  for (const int count : {1, 2, 7}) {
    set_threads(count);
    Problem p({300, 70}, 96, outlier_inputs(300, 96, 5), {{"group_size", 40}}, 3);
    const StageScales found = search_scales(p.stage);
    std::string text = Json(found.scales).dump() + found.details.dump();
    for (const StageTask::Module& module : p.stage.modules)
      text += digest(run_method("awq", module.task, p.settings).tensor);
    results.push_back(text);
  }
  set_threads(before);
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

// ---- clipping ----

double form(const std::vector<double>& d, const std::vector<float>& hessian) {
  double sum = 0;
  for (size_t i = 0; i < d.size(); ++i) {
    for (size_t j = 0; j < d.size(); ++j) sum += d[i] * hessian[i * d.size() + j] * d[j];
  }
  return sum;
}

// All 11^2 pairs of factors for rows of two groups: what clip_rows finds group by group is close to the best
// pair, and often is it.
TEST(AwqClip, CloseToTheBestFactors) {
  const int64_t rows = 40, in = 20, group = 12;
  const std::vector<float> hessian = moments_of(correlated_inputs(80, in, 3), in),
                           weight = normal_values(rows * in, 9);
  const GridSettings grid = {3, group, false, DType::f32};
  const RoundedRows clipped = clip_rows(weight.data(), rows, 0, in, hessian.data(), grid, "m");
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
          d.push_back(w[i] - rounded(w[i], std::min(*low, 0.0f) * factor, std::max(*high, 0.0f) * factor, 3));
        }
        const double error = form(d, hessian);
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
  EXPECT_LT(found_sum, 1.1 * best_sum);
  EXPECT_LT(found_sum, 0.8 * plain_sum);
}

TEST(AwqClip, LeavesQueriesAndKeysAlone) {
  Problem p({150}, 32, outlier_inputs(60, 32, 8), {{"group_size", 16}}, 6);
  ModuleTask task = p.stage.modules[0].task;
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
