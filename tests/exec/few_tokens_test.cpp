// Products of one or a few tokens: what a product's bits may depend on, which is the row and the
// token alone. (That the values are right: executor_test.cpp, ggml_blocks_test.cpp.)
#include "lib/exec/cpu/few_tokens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "lib/base/half.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/isa.h"
#include "lib/exec/cpu/packed_dot.h"
#include "lib/exec/reference/reference.h"
#include "tests/exec/executor_helper.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

// Every stored form that has a kernel, and two that have none.
std::vector<WeightLayout> every_layout(int64_t out, int64_t in) {
  std::vector<WeightLayout> all = {dense_layout({out, in}, DType::f32),
                                   dense_layout({out, in}, DType::f16),
                                   dense_layout({out, in}, DType::bf16),
                                   dense_layout({out, in}, DType::f64), int8_rows_layout(out, in)};
  for (const int bits : {2, 3, 4, 5, 6, 7, 8}) {
    for (const bool symmetric : {true, false})
      all.push_back(
          integer_grid_layout(out, in, {.bits = bits, .group_size = 32, .symmetric = symmetric}));
  }
  for (const int64_t group : {7, 20})  // more groups than lanes, and fewer
    all.push_back(integer_grid_layout(out, in, {.bits = 4, .group_size = group}));
  for (const bool nested : {true, false})
    all.push_back(float_blocks_layout(
        {out, in}, {.block_size = 32, .double_quantization = nested, .nested_block = 5}));
  for (const GgmlTypeInfo& type : ggml_types()) {
    if (type.block > 1 && in % type.block == 0)
      all.push_back(ggml_blocks_layout(out, in, type.type));
  }
  return all;
}

std::string layout_name(const WeightLayout& layout) {
  return layout.codec() + " " + layout.encoding->parameters().dump();
}

std::vector<float> multiply(const std::vector<Weight>& weights, const std::vector<float>& x,
                            int64_t tokens, Threads threads) {
  const int64_t out = weights[0].out, in = weights[0].in;
  std::vector<float> y(weights.size() * static_cast<size_t>(tokens * out));
  std::vector<FewProduct> products;
  for (size_t i = 0; i < weights.size(); ++i)
    products.push_back(
        {&weights[i], Out(y.data() + static_cast<int64_t>(i) * tokens * out, tokens, out), false});
  multiply_few(In(x.data(), tokens, in), products, threads);
  return y;
}

// Products side by side, on any number of threads, equal each alone; so do tokens.
TEST(FewTokens, BitsDependOnTheRowAlone) {
  select_isa();
  const int64_t out = 333, in = 256, tokens = 6;
  const auto x = noise(tokens * in, 3);
  std::vector<QuantizedTensor> tensors;
  std::vector<Weight> weights;
  for (const WeightLayout& layout : every_layout(out, in)) tensors.push_back(random_weight(layout));
  for (const QuantizedTensor& tensor : tensors) weights.push_back(tensor.view());
  const auto all = multiply(weights, x, tokens, Threads(3));
  EXPECT_EQ(all, multiply(weights, x, tokens, Threads(1)));
  for (size_t i = 0; i < weights.size(); ++i) {
    SCOPED_TRACE(layout_name(weights[i]));
    const float* own = all.data() + static_cast<int64_t>(i) * tokens * out;
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<float> token(x.begin() + t * in, x.begin() + (t + 1) * in);
      const auto alone = multiply({weights[i]}, token, 1, Threads(2));
      ASSERT_TRUE(std::equal(alone.begin(), alone.end(), own + t * out)) << "token " << t;
    }
  }
}

// A row has the same bits wherever it stands: first of four, last of three, alone.
TEST(FewTokens, BitsDoNotDependOnTheRowsBeside) {
  select_isa();
  const int64_t in = 256;
  const auto x = noise(in, 4);
  for (const WeightLayout& layout : every_layout(7, in)) {
    SCOPED_TRACE(layout_name(layout));
    const QuantizedTensor tensor = random_weight(layout);
    const auto y = multiply({tensor.view()}, x, 1, Threads(1));
    const auto forms = every_layout(1, in);
    const auto single = std::find_if(forms.begin(), forms.end(), [&](const WeightLayout& one) {
      return layout_name(one) == layout_name(layout) &&
             one.specs().size() == layout.specs().size() && one.code_bits() == layout.code_bits() &&
             one.specs()[0].dtype == layout.specs()[0].dtype;
    });
    ASSERT_NE(single, forms.end());
    for (const int64_t row : {0, 2, 6}) {
      QuantizedTensor one = random_weight(*single);
      if (one.as<FloatBlocks>() != nullptr) continue;  // their nested statistics cross rows
      for (auto& [name, part] : one.parts) {
        const Bytes from = tensor.parts.at(name).view().bytes;
        const size_t size = part.bytes().size();
        std::memcpy(part.bytes().data(), from.data() + static_cast<size_t>(row) * size, size);
      }
      EXPECT_EQ(multiply({one.view()}, x, 1, Threads(1))[0], y[static_cast<size_t>(row)]);
    }
  }
}

// Rows that end within a vector, for ggml's blocks of 32; against sums in f64.
TEST(FewTokens, BlocksThatFillNoVector) {
  for (const int64_t in : {32, 64, 96, 160, 224}) {
    for (const GgmlTypeInfo& type : ggml_types()) {
      if (type.block != 32) continue;
      SCOPED_TRACE(std::string(type.name) + " columns " + std::to_string(in));
      const QuantizedTensor tensor = random_weight(ggml_blocks_layout(9, in, type.type));
      const auto x = noise(2 * in, 5);
      const Prepared weight(tensor.view());
      std::vector<float> expected(2 * 9), actual(2 * 9);
      reference_executor().linear(rows_of(x, in), {weight}, rows_of(expected, 9));
      fast_executor().linear(rows_of(x, in), {weight}, rows_of(actual, 9));
      double largest = 0;
      for (const float value : expected) largest = std::max(largest, std::abs(double{value}));
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_NEAR(actual[i], expected[i], 1e-5 * largest) << "at " << i;
    }
  }
}

// Rows of 48 blocks, whose nested statistics change within a vector, between two, and between rows;
// so do the groups of a scattered grid. Against sums in f64.
TEST(FewTokens, LongRowsOfManyGroups) {
  const int64_t out = 5, in = 1536;
  std::vector<WeightLayout> layouts;
  for (const int64_t nested : {7, 16, 32, 48, 256})
    layouts.push_back(float_blocks_layout({out, in}, {.block_size = 32, .nested_block = nested}));
  for (const int64_t group : {16, 20, 24, 100, 112, 1000})
    layouts.push_back(
        integer_grid_layout(out, in, {.bits = 4, .group_size = group, .symmetric = false}));
  for (const WeightLayout& layout : layouts) {
    SCOPED_TRACE(layout_name(layout));
    const QuantizedTensor tensor = random_weight(layout);
    const auto x = noise(in, 6);
    const Prepared weight(tensor.view());
    std::vector<float> expected(out), actual(out);
    reference_executor().linear(rows_of(x, in), {weight}, rows_of(expected, out));
    fast_executor().linear(rows_of(x, in), {weight}, rows_of(actual, out));
    double largest = 0;
    for (const float value : expected) largest = std::max(largest, std::abs(double{value}));
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(actual[i], expected[i], 2e-5 * largest) << "at " << i;
  }
}

// Every column of a chunk stands at one place.
TEST(FewTokens, OrdersArePermutations) {
  select_isa();
  if (simd::packed_lanes() == 1) GTEST_SKIP() << "no kernels for this instruction set";
  for (int p = 0; p < simd::kPackings; ++p) {
    const auto packing = static_cast<simd::Packing>(p);
    const int64_t count = simd::packed_columns(packing);
    std::vector<int> seen(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i)
      ++seen.at(static_cast<size_t>(simd::packed_column(packing, i)));
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), count) << "packing " << p;
  }
}

}  // namespace
}  // namespace qwb
