// The fast executor's other operations against the reference, over odd sizes and tails
// (near_helper.h argues the tolerance).
#include "lib/exec/executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/base/rng.h"
#include "lib/exec/cpu/isa.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/reference/reference.h"
#include "tests/exec/executor_helper.h"
#include "tests/exec/near_helper.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

// The first turned pairs of the first head of a row, by hand; nothing else of the head moves.
void expect_turned(const std::vector<float>& before, const std::vector<float>& after,
                   int64_t head_dim, int64_t turned, RotaryPairs pairs) {
  for (int64_t k = 2 * turned; k < head_dim; ++k) EXPECT_EQ(after[k], before[k]) << k;
  for (int64_t k = 2 * head_dim; k < 3 * head_dim; ++k) EXPECT_EQ(after[k], before[k]) << k;
  if (turned == 0) return;
  const auto cosine = noise(4 * head_dim / 2, 35), sine = noise(4 * head_dim / 2, 36);
  const int64_t other = pairs == RotaryPairs::halves ? turned : 1;
  EXPECT_NEAR(after[0], before[0] * cosine[0] - before[other] * sine[0], 1e-5);
  EXPECT_NEAR(after[other], before[other] * cosine[0] + before[0] * sine[0], 1e-5);
}

TEST(Kernels, NormsActivationsAndRotation) {
  for (const int64_t n : {1, 5, 16, 37, 192}) {
    const int64_t rows = 3;
    const auto x = noise(rows * n, 31, 4), gain = noise(n, 32), bias = noise(n, 33);
    std::vector<float> expected(x.size()), actual(x.size());
    const In in = rows_of(x, n), gains = rows_of(gain, n), biases = rows_of(bias, n);
    reference_executor().rms_norm(in, gains, 1e-5, rows_of(expected, n));
    fast_executor().rms_norm(in, gains, 1e-5, rows_of(actual, n));
    expect_near(actual, expected, 1e-6);
    reference_executor().layer_norm(in, gains, biases, 1e-5, rows_of(expected, n));
    fast_executor().layer_norm(in, gains, biases, 1e-5, rows_of(actual, n));
    expect_near(actual, expected, 2e-6);
    for (const Activation activation :
         {Activation::silu, Activation::gelu_tanh, Activation::gelu_erf, Activation::quick_gelu,
          Activation::relu}) {
      for (const bool gated : {false, true}) {
        auto a = noise(rows * n, 34, 12), b = a;
        a[0] = b[0] = -300.0f;  // GPT-2's outliers: exp must not overflow into NaN
        a[a.size() / 2] = b[b.size() / 2] = 300.0f;
        for (auto [executor, values] :
             {std::pair(&reference_executor(), &a), {&fast_executor(), &b}}) {
          if (gated) {
            executor->activate(activation, rows_of(*values, n), in);
          } else {
            executor->activate(activation, rows_of(*values, n));
          }
        }
        expect_near(b, a, 1e-6);
      }
    }
  }
  for (const int64_t head_dim : {2, 10, 32, 50}) {
    const auto cosine = noise(4 * head_dim / 2, 35), sine = noise(4 * head_dim / 2, 36);
    auto a = noise(4 * 3 * head_dim + 12, 37), b = a;
    // Two of the three heads of every row.
    const In cosines = rows_of(cosine, head_dim / 2), sines = rows_of(sine, head_dim / 2);
    const auto heads = [&](std::vector<float>& values) {
      return Out(values.data(), 4, 2 * head_dim, 3 * head_dim, nullptr);
    };
    reference_executor().rotate(heads(a), head_dim, cosines, sines);
    fast_executor().rotate(heads(b), head_dim, cosines, sines);
    expect_near(b, a, 1e-6);
    for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::neighbours}) {
      // All of a head, and a part of it.
      for (const int64_t turned : {head_dim / 2, head_dim / 5, int64_t{0}}) {
        const In c(cosine.data(), 4, turned), s(sine.data(), 4, turned);
        const auto before = a;
        reference_executor().rotate(heads(a), head_dim, c, s, pairs);
        fast_executor().rotate(heads(b), head_dim, c, s, pairs);
        expect_near(b, a, 1e-6);
        expect_turned(before, a, head_dim, turned, pairs);
      }
    }
  }
}

TEST(Kernels, AttentionWithPastWindowsAndGroups) {
  const std::vector<float> slopes = {0.5f, 0.02f, 1, 0.1f};
  for (const int64_t tokens : {1, 5, 66, 150}) {
    for (const int64_t past : {0, 1, 70}) {
      for (const int64_t window : {0, 1, 9, 100}) {
        AttentionShape shape{.heads = 4,
                             .kv_heads = 2,
                             .head_dim = 10,
                             .window = window,
                             .scale = 0.8f,
                             .soft_cap = window == 9 ? 2.5f : 0.0f};
        if (window == 100) shape.slopes = slopes;
        const auto q = noise(tokens * 50, 41, 3), k = noise((past + tokens) * 20, 42, 3),
                   v = noise((past + tokens) * 20, 43);
        const In queries = rows_of(q, 50).column_range(0, 40), keys = rows_of(k, 20),
                 values = rows_of(v, 20);
        std::vector<float> expected(static_cast<size_t>(tokens * 40)), actual(expected.size());
        reference_executor().attention(queries, keys, values, shape, rows_of(expected, 40));
        fast_executor().attention(queries, keys, values, shape, rows_of(actual, 40));
        SCOPED_TRACE(std::to_string(tokens) + " " + std::to_string(past) + " " +
                     std::to_string(window));
        expect_near(actual, expected);
      }
    }
  }
}

TEST(Kernels, RowsAreGatheredScatteredAndCopied) {
  const auto x = noise(9 * 37, 101), y = noise(12 * 37, 102);
  const std::vector<int64_t> rows = {0, 3, 4, 8};
  const std::vector<float> factors = {0.5f, -2, 1, 3};
  std::vector<std::vector<float>> results;
  for (const Executor* executor : {&reference_executor(), &fast_executor()}) {
    std::vector<float> sums = y, some(4 * 37), narrow(9 * 10);
    executor->gather(rows_of(x, 37), rows, rows_of(some, 37));
    executor->scatter_add(rows_of(some, 37), rows, factors, rows_of(sums, 37));
    executor->copy(rows_of(x, 37).column_range(20, 10), rows_of(narrow, 10));
    executor->scale(rows_of(sums, 37), 0.75f);
    executor->fill(rows_of(some, 37).column_range(0, 37).row_range(1, 2), 2.5f);
    EXPECT_EQ(some[36], x[36]);
    EXPECT_EQ(some[37], 2.5f);
    EXPECT_EQ(narrow[10], x[37 + 20]);
    results.push_back(sums);
  }
  expect_near(results[1], results[0], 1e-6);
  EXPECT_EQ(results[1][11 * 37], y[11 * 37] * 0.75f);  // a row that nothing was added to
}

TEST(Kernels, DivergenceMatchesTheReference) {
  auto a = noise(5 * 300, 111, 5), b = noise(5 * 300, 112, 5);
  a[3 * 300 + 299] = NAN;
  const std::vector<int32_t> targets = {0, 299, 7, 8, 9};
  std::vector<RowDivergence> expected(5), actual(5);
  reference_executor().divergence(rows_of(a, 300), rows_of(b, 300), targets, expected);
  fast_executor().divergence(rows_of(a, 300), rows_of(b, 300), targets, actual);
  for (size_t r = 0; r < 5; ++r) {
    EXPECT_EQ(actual[r].finite, r != 3);
    EXPECT_EQ(expected[r].finite, r != 3);
    if (r == 3) continue;
    EXPECT_NEAR(actual[r].kl, expected[r].kl, 1e-12);
    EXPECT_NEAR(actual[r].base_loss, expected[r].base_loss, 1e-12);
    EXPECT_NEAR(actual[r].other_loss, expected[r].other_loss, 1e-12);
    EXPECT_EQ(actual[r].base_top, expected[r].base_top);
    EXPECT_EQ(actual[r].other_top, expected[r].other_top);
  }
}

TEST(Kernels, FindNanAndInfinityAnywhere) {
  for (const int64_t n : {1, 7, 8, 33}) {
    for (int64_t at = 0; at < n; ++at) {
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        auto x = noise(n, 61);
        EXPECT_TRUE(fast_executor().all_finite(rows_of(x, n)));
        x[static_cast<size_t>(at)] = bad;
        EXPECT_FALSE(fast_executor().all_finite(rows_of(x, n)));
      }
    }
  }
}

TEST(Kernels, MomentsAreSymmetricSums) {
  for (const int64_t n : {1, 50, 193, 400}) {
    const int64_t rows = 37;
    const auto x = noise(rows * n, 71);
    std::vector<float> h(static_cast<size_t>(n * n), 1.0f);
    add_moments(Operand(x.data(), rows, n, Products::f32), rows, h.data());
    mirror_moments(h.data(), n);
    for (int64_t i = 0; i < n; i += 13) {
      for (int64_t j = 0; j < n; j += 7) {
        double sum = 1;
        for (int64_t r = 0; r < rows; ++r)
          sum += static_cast<double>(x[static_cast<size_t>(r * n + i)]) *
                 static_cast<double>(x[static_cast<size_t>(r * n + j)]);
        EXPECT_NEAR(h[static_cast<size_t>(i * n + j)], sum, 1e-4);
        EXPECT_EQ(h[static_cast<size_t>(i * n + j)], h[static_cast<size_t>(j * n + i)]);
      }
    }
  }
}

TEST(Kernels, SixteenBitConversions) {
  const auto values = noise(1003, 81, 300);
  std::vector<std::byte> halves(values.size() * 2);
  std::vector<float> back(values.size());
  simd::to_f16(values.data(), 1003, 0.5f, halves.data());
  simd::from_f16(halves.data(), 1003, 1.0f, back.data());
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(back[i], f16_to_f32(f32_to_f16(values[i] * 0.5f)));
  EXPECT_EQ(simd::max_magnitude(values.data(), 1003),
            std::abs(*std::max_element(values.begin(), values.end(), [](float a, float b) {
              return std::abs(a) < std::abs(b);
            })));
}

}  // namespace
}  // namespace qwb
