// Products with weights of every stored form, and unpacking them: the fast executor against the
// reference, over odd sizes and tails (near_helper.h argues the tolerance).
#include "lib/exec/cpu/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/parallel.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/isa.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/reference/reference.h"
#include "tests/exec/executor_helper.h"
#include "tests/exec/near_helper.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

const std::vector<std::string> kKinds = {
    "dense-f32", "dense-f16", "dense-bf16", "dense-f32-T", "dense-bf16-T", "grid2", "grid3",
    "grid4", "grid5", "grid6", "grid7", "grid8", "grid4-asym", "grid3-asym-g7",
    "grid4-asym-g7-bf16", "grid8-asym", "int8", "nf4", "fp4", "nf4-double", "fp4-double", "nf4-T",
    "nf4-double-T", "grid4-act-g7", "grid3-asym-act-g7",
    // groups of a word, of some words, and longer than a row
    "grid2-asym-g16", "grid2-g48", "grid3-asym-g8", "grid4-asym-g8", "grid4-g40-bf16", "fp8",
    "fp8-g7", "nvfp4", "mxfp4", "grid4-asym-g999", "grid5-asym-g4", "grid6-asym-g12",
    "grid7-asym-g36", "grid8-asym-g4"};

TEST(Kernels, DequantizeEveryCodecAsDefined) {
  for (const std::string& kind : kKinds) {
    for (const auto& [out, in] :
         {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {17, 64}, {9, 131}, {5, 300}}) {
      SCOPED_TRACE(kind + " " + std::to_string(out) + "x" + std::to_string(in));
      const RandomWeight made = random_weight(kind, out, in, 11);
      std::vector<float> values(static_cast<size_t>(out * in));
      dequantize(made.weight, values.data());
      // The f32 formula rounds at most twice: 2^-23 of the value, which is at most 256 * 1.1.
      expect_near(values, reference_dequantize(made.weight), 3e-7);
    }
  }
}

TEST(SlowKernels, LinearMatchesTheReference) {
  // 200 and 256 columns are multiplied as they are stored if a few tokens come; 200 end within a
  // group, 131 within a byte.
  for (const int64_t in : {5, 131, 200, 256, 520}) {
    for (const std::string& kind : kKinds) {
      for (const int64_t tokens : {1, 3, 6, 7, 33}) {
        if (in == 520 && tokens > 6) continue;
        const int64_t out = 65;
        SCOPED_TRACE(kind + " columns " + std::to_string(in) + " tokens " + std::to_string(tokens));
        const RandomWeight made = random_weight(kind, out, in, 5);
        const auto x = noise(tokens * in, 6);
        const auto bias = noise(out, 7, 3);
        for (const bool add : {false, true}) {
          std::vector<float> expected = noise(tokens * out, 8), actual = expected;
          const Prepared weight(made.weight);
          const Affine module{weight, add ? rows_of(bias, out) : In()};
          const Accumulate sum = add ? Accumulate::yes : Accumulate::no;
          reference_executor().linear(rows_of(x, in), module, rows_of(expected, out), sum);
          fast_executor().linear(rows_of(x, in), module, rows_of(actual, out), sum);
          expect_near(actual, expected);
        }
      }
    }
  }
}

TEST(Kernels, LargeMatricesCrossTilesAndSlabs) {
  const int64_t out = 300, in = 517, tokens = 261;
  for (const std::string kind : {"dense-bf16", "dense-f32-T", "grid4"}) {
    const RandomWeight made = random_weight(kind, out, in, 21);
    const auto x = noise(tokens * in, 22);
    std::vector<float> expected(static_cast<size_t>(tokens * out)), actual(expected.size());
    const Prepared weight(made.weight);
    reference_executor().linear(rows_of(x, in), {weight}, rows_of(expected, out));
    fast_executor().linear(rows_of(x, in), {weight}, rows_of(actual, out));
    expect_near(actual, expected);
  }
}

TEST(SlowKernels, LossesOverVocabularySlabs) {
  for (const int64_t vocab : {7, 4096, 9001}) {
    const int64_t rows = 19, hidden = 24;
    const RandomWeight made = random_weight("dense-bf16", vocab, hidden, 51);
    const auto x = noise(rows * hidden, 52, 8);
    std::vector<int32_t> targets;
    for (int64_t r = 0; r < rows; ++r) targets.push_back(static_cast<int32_t>(r * 7919 % vocab));
    std::vector<double> expected(static_cast<size_t>(rows)), actual(expected.size());
    for (const LogitShape shape :
         {LogitShape{}, {.cap = 3}, {.scale = 0.25f}, {.scale = 2, .cap = 3}}) {
      const Prepared weight(made.weight);
      reference_executor().losses(rows_of(x, hidden), weight, targets, shape, expected);
      fast_executor().losses(rows_of(x, hidden), weight, targets, shape, actual);
      for (size_t r = 0; r < expected.size(); ++r)
        EXPECT_NEAR(actual[r], expected[r], 2e-5 * std::max(1.0, expected[r]));
    }
  }
}

TEST(Kernels, LossesKeepANan) {
  RandomWeight made = random_weight("dense-f32", 5000, 24, 51);
  made.dense.data<float>()[4990 * 24 + 3] = NAN;
  const auto x = noise(9 * 24, 52);
  const std::vector<int32_t> targets(9, 7);
  std::vector<double> losses(9);
  fast_executor().losses(rows_of(x, 24), Prepared(made.weight), targets, {}, losses);
  for (const double loss : losses) EXPECT_TRUE(std::isnan(loss));
}

// Rows of several sequences beside each other have the bits that each sequence has alone: short
// pieces, which are multiplied together, between long ones, for every codec.
TEST(Kernels, RowsOfSeveralSequencesKeepTheirBits) {
  const std::vector<int64_t> pieces = {1, 1, 6, 9, 1, 33, 2, 7, 1, 1, 1, 5};
  const int64_t rows = std::accumulate(pieces.begin(), pieces.end(), int64_t{0});
  const auto int8 = make_int8_executor(0.9f, Threads());
  for (const int64_t in : {131, 256}) {
    for (const std::string& kind : kKinds) {
      const int64_t out = 16;
      const RandomWeight made = random_weight(kind, out, in, 5);
      const auto x = noise(rows * in, 6), bias = noise(out, 7), before = noise(rows * out, 8);
      for (const Executor* executor :
           {&fast_executor(), &bf16_executor(), static_cast<const Executor*>(int8.get())}) {
        SCOPED_TRACE(kind + " " + executor->identity());
        const Prepared weight = executor->prepare(made.weight, Reuse::often);
        const Affine module{weight, rows_of(bias, out)};
        std::vector<float> sums = before, alone = before, several(before.size()), gate = several,
                           one = several;
        executor->linear(Rows(rows_of(x, in), pieces), module, rows_of(sums, out), Accumulate::yes);
        executor->linears(Rows(rows_of(x, in), pieces),
                          std::vector<Executor::Output>{{module, rows_of(several, out)}});
        executor->gated(Rows(rows_of(x, in), pieces), &module, {weight}, Activation::silu,
                        rows_of(gate, out));
        std::vector<float> alone_several(before.size());
        int64_t first = 0;
        for (const int64_t piece : pieces) {
          const In own = rows_of(x, in).row_range(first, piece);
          const auto place = [&](std::vector<float>& values) {
            return rows_of(values, out).row_range(first, piece);
          };
          executor->linear(own, module, place(alone), Accumulate::yes);
          executor->linears(own, std::vector<Executor::Output>{{module, place(alone_several)}});
          executor->gated(own, &module, {weight}, Activation::silu, place(one));
          first += piece;
        }
        EXPECT_EQ(sums, alone);
        EXPECT_EQ(several, alone_several);
        EXPECT_EQ(gate, one);
      }
    }
  }
}

TEST(SlowKernels, SameBitsForAnyNumberOfThreads) {
  const RandomWeight made = random_weight("grid4-asym", 700, 331, 91);
  const auto x = noise(515 * 331, 92);
  std::vector<std::vector<float>> results, moments;
  for (const int count : {1, 2, 7}) {
    const Threads threads(count);
    results.emplace_back(515 * 700);
    make_executor(ExecutorKind::fast, threads)
        ->linear(rows_of(x, 331), {Prepared(made.weight)}, rows_of(results.back(), 700));
    moments.emplace_back(331 * 331, 0.0f);
    add_moments(Operand(x.data(), 515, 331, Products::f32, threads), 515, moments.back().data());
    mirror_moments(moments.back().data(), 331, threads);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
  EXPECT_EQ(moments[0], moments[1]);
  EXPECT_EQ(moments[0], moments[2]);
}

}  // namespace
}  // namespace qwb
