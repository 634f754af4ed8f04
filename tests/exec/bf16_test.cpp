// Products of bf16 operands and the executor that uses them, with every unit that this machine has.
// Plain code is one of them, so that the rounding and the layouts are tested anywhere.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/tile_product.h"
#include "lib/exec/executor.h"
#include "tests/exec/executor_helper.h"

namespace qwb {
namespace {

std::vector<float> uniform(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.uniform()) * 2 - 1;
  return values;
}

TEST(Bf16, ConversionRoundsToNearestEvenAtAnyLength) {
  std::vector<float> values = uniform(37, 1);
  for (const float special :
       {0.0f, -0.0f, 1.0f, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f, -0x1.fffffep127f, 0x1p-130f,
        std::numeric_limits<float>::infinity()}) {
    values.push_back(special);
  }
  for (size_t count = 0; count <= values.size(); ++count) {
    std::vector<uint16_t> out(count + 1, 0x1234);
    simd::to_bf16(values.data(), static_cast<int64_t>(count),
                  reinterpret_cast<std::byte*>(out.data()));
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(out[i], f32_to_bf16(values[i])) << values[i];
    EXPECT_EQ(out[count], 0x1234);
  }
}

// Every unit in turn; the best one again at the end.
class Units : public ::testing::Test {
 protected:
  void TearDown() override { force_bf16_units(""); }
};

// A matrix of bf16, stored by line or by inner index with gaps, and as it is packed from f32 and
// from bf16.
struct Packed {
  Packed(int64_t lines, int64_t inner, bool by_line, TileForm form, uint64_t seed)
      : layout{lines, inner, (by_line ? inner : lines) + 3, by_line} {
    wide = uniform((by_line ? lines : inner) * layout.stride, seed);
    narrow.resize(wide.size());
    to_bf16(wide.data(), static_cast<int64_t>(wide.size()), narrow.data());
    for (auto* memory : {&from_wide, &from_narrow})
      memory->assign(static_cast<size_t>(panel_values(lines, inner)),
                     0x7fff);  // NaN where nothing is written
    pack_panels(wide.data(), layout, form, panels_at(from_wide.data(), inner));
    pack_panels(narrow.data(), layout, form, panels_at(from_narrow.data(), inner));
  }
  double at(int64_t line, int64_t k) const {
    return bf16_to_f32(narrow[static_cast<size_t>(layout.by_line ? line * layout.stride + k
                                                                 : k * layout.stride + line)]);
  }
  Panels panels() { return panels_at(from_wide.data(), layout.inner); }

  MatrixLayout layout;
  std::vector<float> wide;
  std::vector<uint16_t> narrow, from_wide, from_narrow;
};

TEST_F(Units, BothSourcesAndFormsHoldTheSameValues) {
  for (const auto& [lines, inner] :
       {std::array<int64_t, 2>{1, 1}, {16, 32}, {17, 33}, {70, 129}, {47, 64}}) {
    for (const bool by_line : {false, true}) {
      Packed left(lines, inner, by_line, TileForm::left, 1),
          right(lines, inner, by_line, TileForm::right, 1);
      EXPECT_EQ(left.from_wide, left.from_narrow);
      EXPECT_EQ(right.from_wide, right.from_narrow);
      std::vector<uint16_t> turned(right.from_wide.size());
      turn_panels(right.panels(), lines, panels_at(turned.data(), inner));
      EXPECT_EQ(turned, left.from_wide);
      for (int64_t l = 0; l < ceil_div(lines, kTileLines) * kTileLines; ++l) {
        for (int64_t k = 0; k < ceil_div(inner, kTileInner) * kTileInner; ++k) {
          const uint16_t* tile = left.panels().tile(l / kTileLines, k / kTileInner);
          const float value = bf16_to_f32(tile[l % kTileLines * kTileInner + k % kTileInner]);
          ASSERT_EQ(value, l < lines && k < inner ? left.at(l, k) : 0.0) << l << " " << k;
        }
      }
    }
  }
}

using SlowUnits = Units;

// Sums in f32 of exact products: the difference from f64 is that of an f32 sum, k * 2^-24 of the
// magnitudes; the units may cut denormals off, which these values do not reach.
TEST_F(SlowUnits, ProductsOfEveryLayoutAgainstF64) {
  for (const std::string& unit : available_bf16_units()) {
    force_bf16_units(unit);
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                                  {7, 5, 33},
                                  {65, 300, 129},
                                  {257, 64, 40},
                                  {32, 48, 1100}}) {
      for (const bool a_by_line : {false, true}) {
        for (const bool b_by_line : {false, true}) {
          for (const bool add : {false, true}) {
            Packed a(m, k, a_by_line, TileForm::left, 2), b(n, k, b_by_line, TileForm::right, 3);
            const int64_t stride_c = n + 2;
            std::vector<float> c = uniform(m * stride_c, 4);
            const std::vector<float> before = c;
            tile_products(a.panels(), b.panels(), {m, n, k}, c.data(), stride_c, add);
            for (int64_t i = 0; i < m; ++i) {
              for (int64_t j = 0; j < stride_c; ++j) {
                const size_t at = static_cast<size_t>(i * stride_c + j);
                if (j >= n) {
                  EXPECT_EQ(c[at], before[at]);
                  continue;
                }
                double sum = add ? before[at] : 0;
                for (int64_t x = 0; x < k; ++x) sum += a.at(i, x) * b.at(j, x);
                ASSERT_NEAR(c[at], sum, static_cast<double>(k + 1) * 0x1p-23)
                    << unit << " " << m << " " << n << " " << k;
              }
            }
          }
        }
      }
    }
  }
}

TEST_F(Units, PartsOfPanelsMultiplyAsParts) {
  Packed a(50, 200, true, TileForm::left, 5), b(60, 200, false, TileForm::right, 6);
  for (const std::string& unit : available_bf16_units()) {
    force_bf16_units(unit);
    std::vector<float> c(static_cast<size_t>(18 * 12));
    tile_product(a.panels().from(32, 64), b.panels().from(48, 64), {18, 12, 136}, c.data(), 12,
                 false);
    for (int64_t i = 0; i < 18; ++i) {
      for (int64_t j = 0; j < 12; ++j) {
        double sum = 0;
        for (int64_t x = 64; x < 200; ++x) sum += a.at(32 + i, x) * b.at(48 + j, x);
        ASSERT_NEAR(c[static_cast<size_t>(i * 12 + j)], sum, 136 * 0x1p-23) << unit;
      }
    }
  }
}

TEST_F(Units, AreNamedAndChosen) {
  EXPECT_EQ(available_bf16_units().back(), "plain");
  force_bf16_units("plain");
  EXPECT_EQ(bf16_units(), "");
  EXPECT_THROW(force_bf16_units("abacus"), Error);
}

// Both operands rounded: 2^-8 relative to the largest output is far above what random signs leave,
// and far below a wrong row or head.
void expect_close_to_reference() {
  const int64_t tokens = 150, in = 96, out = 80;
  for (const DType type : {DType::bf16, DType::f32}) {
    const auto values = uniform(in * out, 5), x = uniform(tokens * in, 6), bias = uniform(out, 7);
    for (const Orientation orientation : {Orientation::out_in, Orientation::in_out}) {
      Tensor stored(type, orientation == Orientation::out_in ? Shape{out, in} : Shape{in, out});
      for (int64_t i = 0; i < in * out; ++i) {
        if (type == DType::bf16) {
          stored.data<uint16_t>()[i] = f32_to_bf16(values[static_cast<size_t>(i)]);
        } else {
          stored.data<float>()[i] = values[static_cast<size_t>(i)];
        }
      }
      const Weight weight{out, in, orientation, DenseWeight{stored.view()}};
      std::vector<float> got(static_cast<size_t>(tokens * out), 1.0f), wanted = got;
      for (const Reuse reuse : {Reuse::seldom, Reuse::often}) {
        std::vector<float> sum(got.size(), 1.0f);
        const Prepared prepared = bf16_executor().prepare(weight, reuse);
        EXPECT_EQ(prepared.extra() != nullptr, reuse == Reuse::often);
        bf16_executor().linear(rows_of(x, in), {prepared, rows_of(bias, out)}, rows_of(sum, out),
                               Accumulate::yes);
        if (reuse == Reuse::often) {
          EXPECT_EQ(sum, got);
        }
        got = sum;
      }
      const Prepared prepared(weight);
      reference_executor().linear(rows_of(x, in), {prepared, rows_of(bias, out)},
                                  rows_of(wanted, out), Accumulate::yes);
      float largest = 0;
      for (const float value : wanted) largest = std::max(largest, std::fabs(value));
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], largest * 0x1p-8);
    }
  }
  AttentionShape s{.heads = 4, .kv_heads = 2, .head_dim = 16, .scale = 0.25f};
  const auto queries = uniform(tokens * 64, 8), keys = uniform((tokens + 9) * 32, 9),
             attended = uniform((tokens + 9) * 32, 10);
  for (const int64_t window : {int64_t{0}, int64_t{20}}) {
    s.window = window;
    std::vector<float> got(static_cast<size_t>(tokens * 64)), wanted = got;
    bf16_executor().attention(rows_of(queries, 64), rows_of(keys, 32), rows_of(attended, 32), s,
                              rows_of(got, 64));
    reference_executor().attention(rows_of(queries, 64), rows_of(keys, 32), rows_of(attended, 32),
                                   s, rows_of(wanted, 64));
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], wanted[i], 0x1p-7) << window << " " << i;
  }
}

TEST_F(Units, ExecutorAgreesWithTheReference) {
  for (const std::string& unit : available_bf16_units()) {
    SCOPED_TRACE(unit);
    force_bf16_units(unit);
    expect_close_to_reference();
  }
}

// H and a product of two operands: each of `rows` additions in f32 rounds at most the sum of the
// magnitudes.
TEST_F(SlowUnits, MomentsAgainstF64) {
  const int64_t rows = 300, columns = 210, others = 34;
  const auto x = uniform(rows * columns, 12), y = uniform(rows * others, 13);
  const auto at = [](const std::vector<float>& values, int64_t i) {
    return static_cast<double>(bf16_to_f32(f32_to_bf16(values[static_cast<size_t>(i)])));
  };
  for (const std::string& unit : available_bf16_units()) {
    SCOPED_TRACE(unit);
    force_bf16_units(unit);
    Operand both(Products::bf16), left(Products::bf16, Operand::Side::left);
    both.set(x.data(), rows, columns);
    left.set(y.data(), rows, others);
    std::vector<float> h(static_cast<size_t>(columns * columns)),
        c(static_cast<size_t>(others * columns));
    add_moments(both, rows, h.data());
    mirror_moments(h.data(), columns);
    add_products(left, both, rows, c.data());
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t i = 0; i < columns + others; ++i) {
        double sum = 0, magnitudes = 0;
        for (int64_t r = 0; r < rows; ++r) {
          const double a = i < columns ? at(x, r * columns + i) : at(y, r * others + i - columns);
          sum += a * at(x, r * columns + j);
          magnitudes += std::fabs(a * at(x, r * columns + j));
        }
        const float got = i < columns ? h[static_cast<size_t>(i * columns + j)]
                                      : c[static_cast<size_t>((i - columns) * columns + j)];
        ASSERT_NEAR(got, sum, static_cast<double>(rows) * 0x1p-24 * magnitudes) << i << " " << j;
      }
    }
  }
}

TEST(SlowBf16, SameBitsForAnyNumberOfThreads) {
  const int64_t rows = 700, columns = 300;
  const auto x = uniform(rows * columns, 11);
  std::vector<float> first;
  for (const int count : {1, 2, 7}) {
    std::vector<float> h(static_cast<size_t>(columns * columns));
    add_moments(Operand(x.data(), rows, columns, Products::bf16, Threads(count)), rows, h.data());
    mirror_moments(h.data(), columns, Threads(count));
    if (first.empty()) first = h;
    EXPECT_EQ(std::memcmp(h.data(), first.data(), h.size() * sizeof(float)), 0) << count;
  }
}

}  // namespace
}  // namespace qwb
