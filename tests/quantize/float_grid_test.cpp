// Grids of floats (--grid): rounding against a search through all points, the scales that the
// formats' owners take, and GPTQ's gain over rounding.
#include "lib/exec/float_grid.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/codec/fp4_groups.h"
#include "lib/codec/fp8_blocks.h"
#include "lib/exec/cpu/dequantize.h"
#include "tests/formats/files_helper.h"
#include "tests/quantize/demo_helper.h"
#include "tests/quantize/gptq_helper.h"

namespace qwb {
namespace {

constexpr const char* kFloatGrids[] = {"fp8", "fp8-tensor", "fp8-block", "nvfp4", "mxfp4"};

struct FloatProblem {
  int64_t out, in;
  std::vector<float> weight, hessian;
  Tensor tensor;
  Moments moments;
  ModuleTask task;

  FloatProblem(int64_t o, int64_t i, uint64_t seed)
      : out(o), in(i), weight(normal_values(o * i, seed)) {
    for (int64_t k = 0; k < in; ++k) weight[k] = 0;  // a row of zeros
    weight[2 * in + 3] *= 30;
    hessian = moments_of(correlated_inputs(600, in, seed + 10), in);
    tensor = make_tensor(weight, {out, in});
    set_hessian(moments, hessian);
    moments.tokens = 1000;
    task = make_task("module", tensor.view());
    task.moments = &moments;
  }
};

std::vector<float> values_of(const ModuleResult& result) {
  const Weight weight = result.tensor.view();
  std::vector<float> values(static_cast<size_t>(weight.out * weight.in));
  dequantize(weight, values.data());
  return values;
}

// The scale of an element, in f64.
double scale_at(const Weight& weight, int64_t o, int64_t i) {
  if (const auto* blocks = weight.as<Fp8Blocks>())
    return blocks->scale(o / blocks->block_rows, i / blocks->block_columns);
  const auto& groups = weight.get<Fp4Groups>();
  return groups.scale(o, i / groups.group_size);
}

TEST(FloatGrid, EveryCodeIsItsOwnNearestPoint) {
  for (const GridPoints points : {GridPoints::e2m1, GridPoints::e4m3}) {
    const FloatPoints& known = float_points(points);
    const int codes = points == GridPoints::e2m1 ? 16 : 256;
    for (int code = 0; code < codes; ++code) {
      const float value = point_value(static_cast<uint8_t>(code), points);
      if (std::isnan(value)) continue;
      EXPECT_EQ(nearest_point(value, known), value) << code;
      const int own = value == 0 ? 0 : code;
      EXPECT_EQ(point_code(value, known), own);
    }
    EXPECT_EQ(nearest_point(1e30f, known), known.largest);
  }
  // Ties go to the even code.
  EXPECT_EQ(nearest_point(2.5f, kE2m1Points), 2);
  EXPECT_EQ(nearest_point(-5, kE2m1Points), -4);
  EXPECT_EQ(nearest_point(0.25f, kE2m1Points), 0);
  EXPECT_EQ(nearest_point(0x3p-10f, kE4m3Points), 0x2p-9f);
}

TEST(FloatGrid, RoundingTakesTheNearestOfAllPoints) {
  const FloatProblem problem(140, 165, 3);
  for (const char* grid : kFloatGrids) {
    SCOPED_TRACE(grid);
    const ModuleResult result = run_method("rtn", problem.task, {{"grid", grid}});
    const Weight weight = result.tensor.view();
    const std::vector<float> values = values_of(result);
    const GridPoints points = weight.code_bits() == 8 ? GridPoints::e4m3 : GridPoints::e2m1;
    for (int64_t k = 0; k < problem.out * problem.in; ++k) {
      const double scale = scale_at(weight, k / problem.in, k % problem.in);
      double nearest = INFINITY;
      for (int code = 0; code < (points == GridPoints::e2m1 ? 16 : 256); ++code) {
        const double point = point_value(static_cast<uint8_t>(code), points);
        if (!std::isnan(point))
          nearest = std::min(nearest, std::fabs(problem.weight[k] - point * scale));
      }
      // The product with the scale rounds once.
      const double rounding = 0x1p-23 * std::fabs(values[k]);
      ASSERT_LE(std::fabs(problem.weight[k] - values[k]), nearest * (1 + 1e-6) + rounding) << k;
    }
  }
}

// Of groups of known magnitude, as llm-compressor 0.14 computes them.
TEST(FloatGrid, ScalesAreThoseOfTheOwners) {
  const GridSettings mx = {.bits = 4, .scale_dtype = DType::f8_e8m0, .points = GridPoints::e2m1};
  EXPECT_EQ(covering_scale(6, mx), 1);
  EXPECT_EQ(covering_scale(6.99f, mx), 1);
  EXPECT_EQ(covering_scale(7, mx), 2);
  EXPECT_EQ(covering_scale(4, mx), 1);
  EXPECT_EQ(covering_scale(3.6f, mx), 1);
  EXPECT_EQ(covering_scale(3.4f, mx), 0.5f);
  EXPECT_EQ(covering_scale(0, mx), 1);
  const GridSettings nv = {
      .bits = 4, .scale_dtype = DType::f8_e4m3, .points = GridPoints::e2m1, .outer = 4};
  EXPECT_EQ(covering_scale(6, nv), 1);
  EXPECT_EQ(covering_scale(1e9f, nv), 112);
  EXPECT_EQ(covering_scale(1e-9f, nv), 0x1p-11f);
}

TEST(FloatGrid, GptqLosesLessThanRounding) {
  const FloatProblem problem(70, 160, 5);
  for (const char* grid : kFloatGrids) {
    SCOPED_TRACE(grid);
    const auto error = [&](const ModuleResult& result) {
      return output_error(problem.weight, values_of(result), problem.in, problem.hessian);
    };
    const double rounded = error(run_method("rtn", problem.task, {{"grid", grid}}));
    for (const bool act_order : {false, true}) {
      const ModuleResult result =
          run_method("gptq", problem.task, {{"grid", grid}, {"act_order", act_order}});
      EXPECT_LT(error(result), 0.5 * rounded) << act_order;
      EXPECT_NEAR(error(result), *result.output_error, 1e-3 * rounded);
    }
    const ModuleResult published =
        run_method("gptq", problem.task, {{"grid", grid}, {"refine", "off"}});
    EXPECT_LT(error(published), 0.8 * rounded);
  }
}

TEST(FloatGrid, AGridDecidesBitsAndGroups) {
  const Method& gptq = find_method("gptq");
  const Settings settings = resolve_settings(gptq, {{"grid", "NVFP4"}});
  EXPECT_EQ(settings.at("group_size"), 16);
  EXPECT_EQ(settings.at("grid"), "nvfp4");
  EXPECT_EQ(gptq.bits(resolve_settings(gptq, {{"grid", "fp8-block"}})), 8);
  EXPECT_EQ(resolve_settings(gptq, {{"grid", "int"}}), resolve_settings(gptq, Json::object()));
  const auto refused = [&](const Json& given, const char* part) {
    expect_error(ErrorKind::usage, part, [&] { resolve_settings(gptq, given); });
  };
  refused({{"grid", "nvfp4"}, {"group_size", 32}}, "has the group_size 16");
  refused({{"grid", "mxfp4"}, {"bits", 8}}, "has 4 bits");
  refused({{"grid", "fp8"}, {"symmetric", false}}, "no zero points");
  refused({{"grid", "fp8"}, {"scale_dtype", "bf16"}}, "scales of its own");
  refused({{"grid", "fp9"}}, "nvfp4");
}

}  // namespace
}  // namespace qwb
