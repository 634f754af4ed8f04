#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/base/parallel.h"
#include "lib/quantize/solve/awq_search.h"
#include "tests/quantize/awq_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

// Relative output error of the modules after awq with these scales.
double error_with(const AwqProblem& problem, const std::vector<float>& scales,
                  const std::string& method = "awq") {
  FoldedScales folded;
  folded.columns = scales;
  std::vector<float> hessian = problem.hessian;
  for (int64_t i = 0; !scales.empty() && i < problem.in; ++i) {
    for (int64_t j = 0; j < problem.in; ++j) hessian[i * problem.in + j] /= scales[i] * scales[j];
  }
  Moments moments = problem.moments;
  set_hessian(moments, hessian);
  double error = 0;
  for (const InputGroupTask::Module& module : problem.group.modules) {
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

// Sum over modules and tokens of |(Q(W s) / s - W) x|^2.
double reference_error(AwqProblem& p, const std::vector<double>& s, int64_t group, int bits) {
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

ReferenceSearch reference_search(AwqProblem& p, int64_t group, int bits) {
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
    AwqProblem p({9, 5}, 24, outlier_inputs(40, 24, seed),
                 {{"bits", bits}, {"group_size", group}, {"scale_dtype", "f32"}, {"clip", "off"}},
                 seed);
    const InputScales found = search_scales(p.group);
    const ReferenceSearch reference = reference_search(p, group, bits);
    ASSERT_EQ(found.details.at("scaling"), reference.kind) << seed;
    if (found.scales.empty()) continue;
    ++scaled;
    EXPECT_NEAR(found.details.at("ratio").get<double>(), reference.ratio, 1e-9);
    // f32 weights times f32 scales may round the other way at the middle between two codes.
    EXPECT_NEAR(found.details.at("stage_error").get<double>(), reference.error / reference.plain,
                1e-3);
    for (int64_t i = 0; i < p.in; ++i)
      EXPECT_NEAR(found.scales[i], reference.scales[i], 1e-5 * found.scales[i]);
  }
  EXPECT_GE(scaled, 4);
}

TEST(SlowAwq, NeverWorseThanRounding) {
  double gained = 0;
  int problems = 0;
  for (const int bits : {2, 3, 4, 8}) {
    for (const int64_t group : {int64_t{16}, int64_t{40}, int64_t{-1}}) {
      for (const bool symmetric : {false, true}) {
        AwqProblem p({30, 70}, 96, outlier_inputs(300, 96, static_cast<uint64_t>(bits)),
                     {{"bits", bits}, {"group_size", group}, {"symmetric", symmetric}}, 3);
        const double rtn = error_with(p, {}, "rtn"), clipped = error_with(p, {});
        const InputScales found = search_scales(p.group);
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
  AwqProblem p({8}, 32, outlier_inputs(50, 32, 4), {{"group_size", 16}, {"scale_dtype", "f32"}}, 1);
  for (int64_t k = 0; k < 8 * 32; ++k) p.weight(0)[k] = static_cast<float>(k * 7 % 16 - 8);
  const InputScales found = search_scales(p.group);
  EXPECT_TRUE(found.scales.empty());
  EXPECT_EQ(found.details.at("scaling"), "none");
}

TEST(Awq, SilentChannelsAndEmptyColumns) {
  std::vector<float> x = outlier_inputs(60, 32, 8);
  for (size_t k = 0; k < x.size(); ++k) {
    if (k % 32 == 5 || k % 32 > 27) x[k] = 0;
  }
  AwqProblem p({20}, 32, x, {{"group_size", 16}}, 6);
  for (int64_t o = 0; o < 20; ++o) p.weight(0)[o * 32 + 9] = 0;
  const InputScales found = search_scales(p.group);
  ASSERT_FALSE(found.scales.empty());
  for (const float scale : found.scales) {
    EXPECT_TRUE(std::isfinite(scale));
    EXPECT_GT(scale, 0);
  }
  // No tokens at all, and no weights at all.
  AwqProblem silent({20}, 32, std::vector<float>(64), {{"group_size", 16}}, 6);
  EXPECT_TRUE(search_scales(silent.group).scales.empty());
  EXPECT_LT(run_method("awq", silent.group.modules[0].task, silent.settings).weight_error, 0.02);
  AwqProblem zeros({20}, 32, x, {{"group_size", 16}}, 6);
  std::fill_n(zeros.weight(0), 20 * 32, 0.0f);
  EXPECT_TRUE(search_scales(zeros.group).scales.empty());
  EXPECT_EQ(run_method("awq", zeros.group.modules[0].task, zeros.settings).weight_error, 0);
}

// Inputs that never change (the channel is a bias in disguise) and weights that do not either.
TEST(Awq, ConstantChannels) {
  std::vector<float> x = outlier_inputs(60, 32, 8);
  for (size_t k = 0; k < x.size(); ++k) {
    if (k % 32 == 2) x[k] = 1;
    if (k % 32 == 12) x[k] = -300;
  }
  AwqProblem p({20}, 32, x, {{"group_size", 16}}, 6);
  for (int64_t o = 0; o < 20; ++o) {
    p.weight(0)[o * 32 + 12] = p.weight(0)[o * 32 + 13] = 0.25f;
    for (int64_t i = 16; o == 3 && i < 32; ++i) p.weight(0)[o * 32 + i] = -0.5f;
  }
  const InputScales found = search_scales(p.group);
  ASSERT_FALSE(found.scales.empty());
  EXPECT_LT(error_with(p, found.scales), 0.5 * error_with(p, {}, "rtn"));
  // All channels alike, in and out: nothing to tell them apart.
  AwqProblem flat({8}, 32, std::vector<float>(320, 2.0f), {{"group_size", 16}}, 6);
  std::fill_n(flat.weight(0), 8 * 32, 0.75f);
  EXPECT_TRUE(search_scales(flat.group).scales.empty());
  EXPECT_LT(run_method("awq", flat.group.modules[0].task, flat.settings).weight_error, 1e-6);
}

// What is divided and what is multiplied stays within f16, whatever the activations ask for.
TEST(Awq, ScalesKeepToHalfPrecision) {
  std::vector<float> x = outlier_inputs(60, 32, 8);
  for (size_t k = 0; k < x.size(); ++k) {
    if (k % 32 == 4) x[k] *= 1e9f;
    if (k % 32 == 6) x[k] *= 1e-9f;
  }
  AwqProblem p({20}, 32, x, {{"group_size", 16}}, 6);
  for (int64_t o = 0; o < 20; ++o) p.weight(0)[o * 32 + 4] = 3000;
  for (int64_t o = 0; o < 20; ++o) p.weight(0)[o * 32 + 6] = 1e-3f;
  p.group.gains[6] = p.group.divided[6] = 30000;
  p.group.gains[7] = p.group.divided[7] = 1e-3f;
  const ScaleStatistics statistics = {
      std::vector<double>(p.moments.input_magnitude.begin(), p.moments.input_magnitude.end()),
      std::vector<double>(32, 0.5), [] {
        std::vector<float> largest(32, 3.0f);
        largest[4] = 3000;
        return largest;
      }()};
  const std::vector<ScaleCandidate> candidates = scale_candidates(p.group, statistics);
  EXPECT_GT(candidates.size(), 30u);
  double widest = 1;
  for (const ScaleCandidate& candidate : candidates) {
    for (size_t k = 0; k < candidate.scales.size(); ++k) {
      const float scale = candidate.scales[k];
      EXPECT_LE(p.group.divided[k] / scale, 32768.5f);
      EXPECT_GE(p.group.divided[k] / scale, 0x1p-14f * 0.999f);
      EXPECT_LE(statistics.largest_weight[k] * scale, 32768.5f);
      widest = std::max(widest, static_cast<double>(scale));
    }
  }
  EXPECT_GT(widest, 5);
  const InputScales found = search_scales(p.group);
  EXPECT_LE(error_with(p, found.scales), error_with(p, {}, "rtn") * (1 + 1e-6));
}

// gain / scale is what the checkpoint's type holds, so that scaling loses nothing in the norm.
TEST(Awq, GainsAreStoredExactly) {
  AwqProblem p({20}, 32, outlier_inputs(60, 32, 8), {{"group_size", 16}}, 6);
  for (const DType type : {DType::bf16, DType::f16}) {
    p.group.gain_type = type;
    for (int64_t i = 0; i < 32; ++i)
      p.group.gains[i] = p.group.divided[i] = i == 3 ? 0 : 0.25f + static_cast<float>(i) / 16;
    const InputScales found = search_scales(p.group);
    ASSERT_FALSE(found.scales.empty());
    EXPECT_EQ(found.scales[3], 1);
    for (int64_t i = 0; i < 32; ++i) {
      if (i == 3) continue;
      const float stored = p.group.gains[i] / found.scales[i];
      const float mantissa = std::frexp(stored, std::make_unique<int>().get()) *
                             (type == DType::bf16 ? 256.f : 2048.f);
      EXPECT_NEAR(mantissa, std::nearbyint(mantissa), 1e-3);
    }
  }
}

TEST(Awq, WhatIsNotFinite) {
  AwqProblem p({20}, 32, outlier_inputs(60, 32, 8), {{"group_size", 16}}, 6);
  p.moments.input_magnitude[3] = std::numeric_limits<float>::infinity();
  for (const bool nan : {false, true}) {
    if (nan) p.moments.input_magnitude[3] = std::numeric_limits<float>::quiet_NaN();
    const InputScales found =
        search_scales(p.group);  // only r = 0 of "both" does not look at the magnitudes
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
  EXPECT_THAT(message([&] { search_scales(p.group); }), HasSubstr("module0"));
  EXPECT_THAT(message([&] { run_method("awq", p.group.modules[0].task, p.settings); }),
              HasSubstr("module0"));
  ModuleTask no_tokens = p.group.modules[0].task;
  no_tokens.moments = nullptr;
  EXPECT_THAT(message([&] { run_method("awq", no_tokens, p.settings); }),
              HasSubstr("no calibration token"));
}

TEST(Awq, OneToken) {
  AwqProblem p({20}, 32, outlier_inputs(1, 32, 8), {{"group_size", 16}, {"bits", 3}}, 6);
  const InputScales found = search_scales(p.group);
  EXPECT_LE(error_with(p, found.scales), error_with(p, {}, "rtn"));
}

TEST(Awq, AGroupLongerThanTheRowIsRefused) {
  const Method& awq = find_method("awq");
  const ModuleInfo info = {"narrow", 8, 32, Orientation::out_in, DType::f32, false};
  try {
    awq.layout(info, resolve_settings(awq, Json::object()));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_THAT(std::string(error.what()), HasSubstr("narrow"));
  }
}

TEST(SlowAwq, SameBitsAtAnyNumberOfThreads) {
  std::vector<std::string> results;
  for (const int count : {1, 2, 7}) {
    AwqProblem p({300, 70}, 96, outlier_inputs(300, 96, 5), {{"group_size", 40}}, 3);
    const auto executor = make_executor(ExecutorKind::fast, Threads(count));
    p.moments.executor = executor.get();
    for (InputGroupTask::Module& module : p.group.modules)
      module.task.context.threads = Threads(count);
    const InputScales found = search_scales(p.group);
    std::string text = Json(found.scales).dump() + found.details.dump();
    for (const InputGroupTask::Module& module : p.group.modules)
      text += digest(run_method("awq", module.task, p.settings).tensor);
    results.push_back(text);
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

}  // namespace
}  // namespace qwb
