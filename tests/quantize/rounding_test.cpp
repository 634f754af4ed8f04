// rtn, int8, none and the 4-bit methods at their edges.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/rounding.h"
#include "lib/quantize/encode/integer_grid.h"
#include "lib/quantize/encode/module_weight.h"
#include "tests/quantize/demo_helper.h"
#include "tests/quantize/gptq_helper.h"

namespace qwb {
namespace {

GridSettings grid(int bits, bool symmetric, DType type) {
  return {bits, 128, symmetric, type};
}

TEST(IntegerGrid, NoWeightIsFurtherThanHalfAStep) {
  const auto values = normal_values(128 * 50, 1);
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      for (int64_t g = 0; g < 50; ++g) {
        const float* group = values.data() + g * 128;
        const GridSettings settings = grid(bits, symmetric, DType::f32);
        const Grid made = make_grid(group, 128, settings, "m");
        uint8_t codes[128];
        round_to_grid(group, 128, made, settings.max_code(), codes);
        // Asymmetric: rounding the zero point may push an end of the range over by half a step
        // more.
        const float limit = made.scale * (symmetric ? 0.501f : 1.001f);
        for (int64_t i = 0; i < 128; ++i)
          ASSERT_LE(std::fabs(grid_value(codes[i], made) - group[i]), limit);
      }
    }
  }
}

TEST(IntegerGrid, TiesGoToEven) {
  const Grid unit = {1, 8};
  const float values[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 7.5f, 100, -100};
  uint8_t codes[9];
  round_to_grid(values, 9, unit, 15, codes);
  const int expected[] = {0, 2, 2, 0, -2, -2, 7, 7, -8};
  for (int i = 0; i < 9; ++i) EXPECT_EQ(codes[i] - 8, expected[i]) << i;
}

TEST(IntegerGrid, TinyScalesAreRoundedUpAndNeverZero) {
  for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
    for (float scale = 1e-3f; scale > 0; scale *= 0.37f) {
      const float stored = stored_scale(scale, type, "m");
      EXPECT_GT(stored, 0);
      if (scale < 0x1p-126f || (type == DType::f16 && scale < 0x1p-14f)) {
        EXPECT_GE(stored, scale);
      }
      if (type == DType::f16) {
        EXPECT_EQ(f16_to_f32(f32_to_f16(stored)), stored);
      }
    }
    EXPECT_EQ(stored_scale(0, type, "m"), 1);
  }
  EXPECT_THROW(stored_scale(65520, DType::f16, "m"), Error);
  EXPECT_EQ(stored_scale(65519, DType::f16, "m"), 65504);
  EXPECT_THROW(stored_scale(std::numeric_limits<float>::max(), DType::bf16, "m"), Error);
}

TEST(Rtn, ZeroGroupsAndTinyWeightsStayExact) {
  std::vector<float> values(4 * 256, 0.0f);
  for (int64_t i = 0; i < 128; ++i)
    values[i] =
        static_cast<float>(i % 15 - 7) * 0x1p-24f;  // an f16 scale that is the smallest subnormal
  const Tensor weight = make_tensor(values, {4, 256});
  for (const bool symmetric : {true, false}) {
    const auto result = run_method("rtn", make_task("m", weight.view()),
                                   {{"symmetric", symmetric}, {"scale_dtype", "f16"}});
    EXPECT_EQ(dequantize(result.tensor), values);
    EXPECT_EQ(result.weight_error, 0);
  }
}

TEST(Rtn, OneGroupPerRowAndShortLastGroups) {
  const auto values = normal_values(3 * 100, 2);
  const Tensor weight = make_tensor(values, {3, 100});
  const ModuleTask task = make_task("m", weight.view());
  EXPECT_EQ(run_method("rtn", task, {{"group_size", -1}}).tensor.parts.at("scales").shape(),
            (Shape{3, 1}));
  const auto result =
      run_method("rtn", task, {{"group_size", 48}, {"bits", 8}, {"scale_dtype", "f32"}});
  EXPECT_EQ(result.tensor.parts.at("scales").shape(), (Shape{3, 3}));
  const auto stored = dequantize(result.tensor);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(stored[i], values[i], 0.02);
  EXPECT_THROW(run_method("rtn", task, {{"group_size", 101}}), Error);
  EXPECT_THAT(
      [&] {
        run_method("rtn", make_task("model.layers.0.up", weight.view()), {{"group_size", 128}});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("model.layers.0.up")));
}

// "auto" keeps f32 scales for f32 weights only.
TEST(Rtn, ScalesFollowTheCheckpointsType) {
  const Tensor full(DType::f32, {2, 4}), half(DType::bf16, {2, 4});
  for (const auto& [tensor, expected] :
       {std::pair(&full, DType::f32), std::pair(&half, DType::f16)}) {
    ModuleTask task = make_task("m", tensor->view());
    const Method& rtn = find_method("rtn");
    const WeightLayout layout = rtn.layout(task.info, resolve_settings(rtn, {{"group_size", -1}}));
    EXPECT_EQ(layout.spec("scales").dtype, expected);
  }
}

TEST(Rtn, HugeScalesAreAnErrorNotAnInfinity) {
  const Tensor weight = make_tensor({1e6f, 2, 3, 4}, {2, 2});
  const ModuleTask task = make_task("m", weight.view());
  EXPECT_THROW(run_method("rtn", task, {{"group_size", -1}, {"scale_dtype", "f16"}}), Error);
  EXPECT_NO_THROW(run_method("rtn", task, {{"group_size", -1}, {"scale_dtype", "bf16"}}));
  const Tensor widest = make_tensor({3e38f, -3e38f}, {1, 2});
  EXPECT_THROW(run_method("rtn", make_task("m", widest.view()),
                          {{"group_size", -1}, {"symmetric", false}, {"scale_dtype", "f32"}}),
               Error);
}

TEST(EveryMethod, RefusesNanAndInfNamingTheModule) {
  for (const auto& method : methods()) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      for (const size_t at : {size_t{0}, size_t{150}, size_t{3 * 140 - 1}}) {
        auto values = normal_values(3 * 140, 3);
        values[at] = bad;
        const Tensor weight = make_tensor(values, {3, 140});
        const std::vector<float> hessian(140 * 140, 0.0f);
        Moments moments;
        set_hessian(moments, hessian);
        moments.tokens = 1;
        ModuleTask task = make_task("model.layers.7.mlp", weight.view());
        task.moments = &moments;
        EXPECT_THAT([&] { run_method(method->name(), task); },
                    testing::ThrowsMessage<Error>(testing::HasSubstr("model.layers.7.mlp")))
            << method->name();
      }
    }
  }
}

TEST(SlowEveryMethod, SameBitsForAnyNumberOfThreads) {
  const auto values = normal_values(200 * 1001, 4);
  const Tensor weight = make_tensor(values, {200, 1001});
  for (const std::string method : {"none", "rtn", "int8", "nf4", "fp4"}) {
    std::string first;
    for (const int count : {1, 2, 7}) {
      ModuleTask task = make_task("m", weight.view(), true);
      task.context.threads = Threads(count);
      const auto result = run_method(method, task);
      const std::string now = digest(result.tensor) + Json(result.weight_error).dump();
      if (first.empty()) first = now;
      EXPECT_EQ(now, first) << method << " " << count;
    }
  }
}

TEST(Int8, ZeroAndTinyRows) {
  const Tensor weight = make_tensor({0, 0, 1e-40f, -5e-41f, 1, -2, 3e38f, -1e38f}, {4, 2});
  const auto result = run_method("int8", make_task("m", weight.view()));
  const auto* codes = result.tensor.parts.at("codes").data<int8_t>();
  const int expected[] = {0, 0, 127, -64, 64, -127, 127, -42};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(codes[i], expected[i]) << i;
}

TEST(None, KeepsOrConvertsTheStoredTensor) {
  const DemoModel model("gpt2");
  const TensorView stored = model.tensor("transformer.h.0.attn.c_attn.weight");
  const ModuleTask task = make_task("m", stored, true);
  const auto same = run_method("none", task);
  const Bytes copied = same.tensor.parts.at("weight").view().bytes;
  EXPECT_TRUE(std::equal(copied.begin(), copied.end(), stored.bytes.begin(), stored.bytes.end()));
  EXPECT_EQ(same.tensor.orientation, Orientation::in_out);
  EXPECT_EQ(same.weight_error, 0);
  const auto values = read_floats(stored, "test");
  const auto half = run_method("none", task, {{"dtype", "f16"}});
  const auto brain = run_method("none", task, {{"dtype", "bf16"}});
  const auto as_f16 = dequantize(half.tensor), as_bf16 = dequantize(brain.tensor);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(as_f16[i], f16_to_f32(f32_to_f16(values[i])));
    ASSERT_EQ(as_bf16[i], bf16_to_f32(f32_to_bf16(values[i])));
  }
  EXPECT_LT(half.weight_error, brain.weight_error);
}

TEST(None, OverflowNamesModuleAndValue) {
  const Tensor weight = make_tensor({1, 70000}, {1, 2});
  EXPECT_THAT(
      [&] {
        run_method("none", make_task("model.head", weight.view()), {{"dtype", "f16"}});
      },
      testing::ThrowsMessage<Error>(
          testing::AllOf(testing::HasSubstr("model.head"), testing::HasSubstr("70000"))));
  EXPECT_NO_THROW(run_method("none", make_task("m", weight.view()), {{"dtype", "bf16"}}));
}

// The error follows from three f32 sums a block, of at most 256 values each before they are added
// up, so it is exact to about 1e-6 of itself. Leaving the nested scales out of it would change it
// by 1e-3.
TEST(Float4, EveryBlockSizeRoundTrips) {
  const auto values = normal_values(50 * 101, 6);
  const Tensor weight = make_tensor(values, {50, 101});
  for (const std::string method : {"nf4", "fp4"}) {
    for (const bool nested : {false, true}) {
      double before = 0;
      for (int size = 16; size <= 4096; size *= 2) {
        const auto result = run_method(method, make_task("m", weight.view()),
                                       {{"block_size", size}, {"double_quantization", nested}});
        const auto stored = dequantize(result.tensor);
        ErrorSum sum;
        for (size_t i = 0; i < values.size(); ++i) sum.add(values[i], stored[i]);
        EXPECT_NEAR(result.weight_error / (sum.error / sum.norm), 1, 1e-6)
            << method << nested << size;
        if (method != "nf4") continue;
        EXPECT_GT(result.weight_error, before) << size;  // larger blocks, larger errors
        EXPECT_LT(result.weight_error, 0.04);
        before = result.weight_error;
      }
    }
  }
}

// The vector search against the definition, a bound itself included: ties go to the lower point.
// Bounds far from each other, and so near that three share a bin.
class Ranks : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Float4, Ranks, ::testing::Bool());

TEST_P(Ranks, AreThoseOfTheDefinitionAtEveryBound) {
  std::array<float, 16> points{};
  std::array<uint8_t, 16> order{};
  std::array<float, 15> bounds{};
  for (size_t i = 0; i < 16; ++i) {
    const auto k = static_cast<float>(i);
    points[i] = GetParam() ? k * 0.12f + (i % 2 == 0 ? -0.95f : -0.93f) : k * k * 0.008f - 0.9f;
    order[i] = static_cast<uint8_t>(15 - i);
    if (i < 15)
      bounds[i] =
          GetParam() ? k * 0.12f + (i % 2 == 0 ? -0.91f : -0.83f) : (k * k + k) * 0.008f - 0.9f;
  }
  const Ranking ranking(points, order, bounds);
  ASSERT_EQ(ranking.binned, GetParam());
  std::vector<float> values = {-1.0f, 1.0f, -0.0f, 0.0f};
  for (const float bound : bounds) {
    values.push_back(std::nextafter(bound, -9.0f));
    values.push_back(bound);
    values.push_back(std::nextafter(bound, 9.0f));
  }
  // The edges of the bins.
  for (int bin = 1; bin < 16; ++bin) {
    const float edge = static_cast<float>(bin - 8) / Ranking::kBins;
    for (const float value : {std::nextafter(edge, -9.0f), edge, std::nextafter(edge, 9.0f)})
      values.push_back(value);
  }
  values.resize(values.size() + values.size() % 2);
  for (size_t count = 2; count <= values.size(); count += 2) {  // every tail
    std::vector<std::byte> packed(count / 2);
    const PointSums sums =
        rank_pairs(values.data(), static_cast<int64_t>(count), 1, 2, ranking, packed.data());
    ErrorSum expected;
    for (size_t i = 0; i < count; ++i) {
      const auto rank = static_cast<size_t>(
          std::count_if(bounds.begin(), bounds.end(), [&](float b) { return values[i] > b; }));
      const int pair = static_cast<int>(packed[i / 2]);
      ASSERT_EQ(i % 2 == 0 ? pair >> 4 : pair & 15, order[rank]) << values[i];
      expected.add(values[i], 1.5f * points[rank]);
    }
    EXPECT_NEAR(sums.error_with(0.5, 2) / expected.error, 1, 1e-5);
    EXPECT_NEAR(sums.norm / expected.norm, 1, 1e-6);
  }
}

}  // namespace
}  // namespace qwb
