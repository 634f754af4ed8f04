// The GPU's operations against the reference, over odd sizes and tails (near_helper.h argues the
// tolerance).
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "tests/exec/executor_helper.h"
#include "tests/exec/gpu_helper.h"
#include "tests/exec/near_helper.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

class GpuOperations : public GpuTest {};

TEST_F(GpuOperations, NormsAndActivations) {
  const HostedExecutor there = hosted();
  for (const int64_t n : {1, 5, 37, 192, 300, 1500, 4096}) {
    const int64_t rows = 3;
    const auto x = noise(rows * n, 31, 4), gain = noise(n, 32), bias = noise(n, 33);
    std::vector<float> expected(x.size()), actual(x.size());
    const In in = rows_of(x, n), gains = rows_of(gain, n), biases = rows_of(bias, n);
    reference_executor().rms_norm(in, gains, 1e-5, rows_of(expected, n));
    there.rms_norm(in, gains, 1e-5, rows_of(actual, n));
    expect_near(actual, expected, 1e-6);
    reference_executor().layer_norm(in, gains, biases, 1e-5, rows_of(expected, n));
    there.layer_norm(in, gains, biases, 1e-5, rows_of(actual, n));
    expect_near(actual, expected, 2e-6);
    for (const Activation activation :
         {Activation::silu, Activation::gelu_tanh, Activation::gelu_erf, Activation::quick_gelu,
          Activation::relu}) {
      auto a = noise(rows * n, 34, 12);
      a[0] = -300.0f;
      a[a.size() / 2] = 300.0f;
      auto b = a, c = a, d = a;
      reference_executor().activate(activation, rows_of(a, n));
      there.activate(activation, rows_of(b, n));
      expect_near(b, a, 1e-6);
      reference_executor().activate(activation, rows_of(c, n), in);
      there.activate(activation, rows_of(d, n), in);
      expect_near(d, c, 1e-6);
    }
  }
}

TEST_F(GpuOperations, Rotation) {
  const HostedExecutor there = hosted();
  for (const int64_t head_dim : {2, 10, 50}) {
    const auto cosine = noise(4 * head_dim / 2, 35), sine = noise(4 * head_dim / 2, 36);
    for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::neighbours}) {
      for (const int64_t turned : {head_dim / 2, head_dim / 5, int64_t{0}}) {
        auto a = noise(4 * 3 * head_dim, 37), b = a;
        const In c(cosine.data(), 4, turned), s(sine.data(), 4, turned);
        const auto heads = [&](std::vector<float>& values) {
          return Out(values.data(), 4, 2 * head_dim, 3 * head_dim, nullptr);
        };
        reference_executor().rotate(heads(a), head_dim, c, s, pairs);
        there.rotate(heads(b), head_dim, c, s, pairs);
        expect_near(b, a, 1e-6);
      }
    }
  }
}

TEST_F(GpuOperations, AttentionWithPastWindowsAndGroups) {
  const HostedExecutor there = hosted();
  for (const auto& [heads, kv_heads, head_dim] :
       {std::array<int64_t, 3>{4, 2, 10}, {2, 1, 128}, {2, 2, 200}, {6, 2, 64}}) {
    for (const int64_t tokens : {1, 5, 8, 9, 66, 150}) {
      for (const int64_t past : {0, 1, 63, 70, 300}) {
        for (const int64_t window : {0, 1, 9, 100}) {
          const AttentionShape shape{.heads = heads,
                                     .kv_heads = kv_heads,
                                     .head_dim = head_dim,
                                     .window = window,
                                     .scale = 0.8f / std::sqrt(static_cast<float>(head_dim)),
                                     .soft_cap = window == 9 ? 2.5f : 0.0f};
          const int64_t wide = heads * head_dim, narrow = kv_heads * head_dim;
          const auto q = noise(tokens * (wide + 8), 41, 3),
                     k = noise((past + tokens) * narrow, 42, 3),
                     v = noise((past + tokens) * narrow, 43);
          const In queries = rows_of(q, wide + 8).column_range(0, wide), keys = rows_of(k, narrow),
                   values = rows_of(v, narrow);
          std::vector<float> expected(static_cast<size_t>(tokens * wide)), actual(expected.size());
          fast_executor().attention(queries, keys, values, shape, rows_of(expected, wide));
          there.attention(queries, keys, values, shape, rows_of(actual, wide));
          SCOPED_TRACE(std::to_string(head_dim) + " " + std::to_string(tokens) + " " +
                       std::to_string(past) + " " + std::to_string(window));
          expect_near(actual, expected);
        }
      }
    }
  }
}

TEST_F(GpuOperations, RowsAreGatheredScatteredAndCopied) {
  const auto x = noise(9 * 37, 101), y = noise(12 * 37, 102);
  const std::vector<int64_t> rows = {0, 3, 4, 8};
  const std::vector<float> factors = {0.5f, -2, 1, 3};
  std::vector<std::vector<float>> results;
  const HostedExecutor there = hosted();
  for (const Executor* executor : {&reference_executor(), static_cast<const Executor*>(&there)}) {
    std::vector<float> sums = y, some(4 * 37), narrow(9 * 10);
    executor->gather(rows_of(x, 37), rows, rows_of(some, 37));
    executor->scatter_add(rows_of(some, 37), rows, factors, rows_of(sums, 37));
    executor->copy(rows_of(x, 37).column_range(20, 10), rows_of(narrow, 10));
    executor->scale(rows_of(sums, 37), 0.75f);
    executor->add(rows_of(sums, 37), rows_of(y, 37));
    executor->soft_cap(rows_of(sums, 37), 1.5f);
    executor->fill(rows_of(some, 37).row_range(1, 2), 2.5f);
    EXPECT_EQ(some[36], x[36]);
    EXPECT_EQ(some[37], 2.5f);
    EXPECT_EQ(narrow[10], x[37 + 20]);
    results.push_back(sums);
  }
  expect_near(results[1], results[0], 1e-6);
}

TEST_F(GpuOperations, DivergencesAndFaults) {
  const HostedExecutor there = hosted();
  auto a = noise(5 * 700, 111, 5), b = noise(5 * 700, 112, 5);
  a[3 * 700 + 699] = NAN;
  const std::vector<int32_t> targets = {0, 299, 7, 8, 9};
  std::vector<RowDivergence> expected(5), actual(5);
  reference_executor().divergence(rows_of(a, 700), rows_of(b, 700), targets, expected);
  there.divergence(rows_of(a, 700), rows_of(b, 700), targets, actual);
  for (size_t r = 0; r < 5; ++r) {
    EXPECT_EQ(actual[r].finite, r != 3);
    if (r == 3) continue;
    EXPECT_NEAR(actual[r].kl, expected[r].kl, 1e-12);
    EXPECT_NEAR(actual[r].base_loss, expected[r].base_loss, 1e-12);
    EXPECT_NEAR(actual[r].other_loss, expected[r].other_loss, 1e-12);
    EXPECT_EQ(actual[r].base_top, expected[r].base_top);
    EXPECT_EQ(actual[r].other_top, expected[r].other_top);
  }
  for (const int64_t n : {1, 33, 5000}) {
    for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        auto x = noise(n, 61);
        EXPECT_TRUE(there.all_finite(rows_of(x, n)));
        x[static_cast<size_t>(at)] = bad;
        EXPECT_FALSE(there.all_finite(rows_of(x, n)));
      }
    }
  }
}

TEST_F(GpuOperations, LossesOverVocabularySlabs) {
  const HostedExecutor there = hosted();
  for (const int64_t vocab : {7, 8192, 9001}) {
    const int64_t rows = 19, hidden = 24;
    RandomWeight made = random_weight("dense-f32", vocab, hidden, 51);
    const auto x = noise(rows * hidden, 52, 8);
    std::vector<int32_t> targets;
    for (int64_t r = 0; r < rows; ++r) targets.push_back(static_cast<int32_t>(r * 7919 % vocab));
    std::vector<double> expected(static_cast<size_t>(rows)), actual(expected.size());
    for (const LogitShape shape :
         {LogitShape{}, {.cap = 3}, {.scale = 0.25f}, {.scale = 2, .cap = 3}}) {
      fast_executor().losses(rows_of(x, hidden), Prepared(made.weight), targets, shape, expected);
      there.losses(rows_of(x, hidden), there.prepare(made.weight, Reuse::seldom), targets, shape,
                   actual);
      for (size_t r = 0; r < expected.size(); ++r)
        EXPECT_NEAR(actual[r], expected[r], 1e-6 * std::max(1.0, expected[r]));
    }
    made.dense.data<float>()[(vocab - 1) * hidden + 3] = NAN;
    there.losses(rows_of(x, hidden), there.prepare(made.weight, Reuse::seldom), targets, {},
                 actual);
    for (const double loss : actual) EXPECT_TRUE(std::isnan(loss));
  }
}

}  // namespace
}  // namespace qwb
