// The fast executor against the reference, operation by operation, over odd sizes and tails.
// Tolerances: sums of n terms of size 1 in f32, in lanes or tiles, err by at most about n^0.5 *
// 2^-24 of the sum of magnitudes: for n <= 300 below 2e-6; 2e-5 relative to the largest output
// leaves ten times that and still catches one wrong element in 300 (3e-3).
#include "lib/exec/executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/isa.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/reference/reference.h"
#include "tests/exec/executor_helper.h"

namespace qwb {
namespace {

std::vector<float> noise(int64_t count, uint64_t seed, float size = 1) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = size * static_cast<float>(2 * rng.uniform() - 1);
  return values;
}

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected,
                 double tolerance = 2e-5) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 1e-30;
  for (const float value : expected)
    largest = std::max(largest, static_cast<double>(std::abs(value)));
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance * largest) << "at " << i;
}

struct Made {
  QuantizedTensor quantized;
  Tensor dense;
  Weight weight;
};

// The number behind "-g", else 64.
int64_t group_of(const std::string& kind) {
  const size_t at = kind.find("-g");
  return at == std::string::npos ? 64 : std::stoll(kind.substr(at + 2));
}

// A weight of every kind with random codes.
Made make(const std::string& kind, int64_t out, int64_t in, uint64_t seed) {
  Made made;
  Rng rng(seed);
  const auto fill_bytes = [&](Tensor& tensor) {
    for (std::byte& byte : tensor.bytes()) byte = static_cast<std::byte>(rng.next());
  };
  const auto fill_floats = [&](Tensor& tensor) {
    for (int64_t i = 0; i < tensor.count(); ++i) {
      const auto value = static_cast<float>(0.1 + rng.uniform());
      if (tensor.dtype() == DType::f32) tensor.data<float>()[i] = value;
      if (tensor.dtype() == DType::f16) tensor.data<uint16_t>()[i] = f32_to_f16(value);
      if (tensor.dtype() == DType::bf16) tensor.data<uint16_t>()[i] = f32_to_bf16(value);
    }
  };
  if (kind.starts_with("dense")) {
    const bool transposed = kind.ends_with("T");
    const DType dtype = kind.find("bf16") != std::string::npos  ? DType::bf16
                        : kind.find("f16") != std::string::npos ? DType::f16
                                                                : DType::f32;
    made.dense = Tensor(dtype, transposed ? Shape{in, out} : Shape{out, in});
    fill_floats(made.dense);
    made.weight = {out, in, transposed ? Orientation::in_out : Orientation::out_in,
                   DenseWeight{made.dense.view()}};
    return made;
  }
  QuantizedTensor& q = made.quantized;
  if (kind.starts_with("grid")) {
    const bool has = kind.find("asym") != std::string::npos;
    q = QuantizedTensor(integer_grid_layout(
        out, in,
        {.bits = kind[4] - '0',
         .group_size = std::min(in, group_of(kind)),
         .symmetric = !has,
         .scale_dtype = kind.find("bf16") != std::string::npos ? DType::bf16 : DType::f16,
         .group_index = kind.find("act") != std::string::npos}));
  } else if (kind == "int8") {
    q = QuantizedTensor(int8_rows_layout(out, in));
  } else {
    // Small nested blocks, so that small matrices have several nested statistics.
    q = QuantizedTensor(float_blocks_layout(
        {out, in, kind.ends_with("T") ? Orientation::in_out : Orientation::out_in},
        {.table = kind.starts_with("nf4") ? FloatBlocks::Table::nf4 : FloatBlocks::Table::fp4,
         .block_size = 64,
         .double_quantization = kind.find("double") != std::string::npos,
         .nested_block = 3}));
    FloatBlocks blocks = q.get<FloatBlocks>();
    blocks.nested_offset = 0.25f;
    q.set(std::move(blocks));
  }
  for (const PartSpec& spec : q.specs()) {
    Tensor& tensor = q.parts.at(spec.name);
    if (dtype_is_float(spec.dtype)) {
      fill_floats(tensor);
    } else {
      fill_bytes(tensor);
    }
    if (spec.name == "group_index") {  // act-order: columns in any group
      const int64_t groups = q.spec("scales").shape[1];
      for (int64_t i = 0; i < in; ++i)
        tensor.data<int32_t>()[i] = static_cast<int32_t>(rng.below(static_cast<uint64_t>(groups)));
    }
  }
  made.weight = q.view();
  return made;
}

const std::vector<std::string> kKinds = {
    "dense-f32", "dense-f16", "dense-bf16", "dense-f32-T", "dense-bf16-T", "grid2", "grid3",
    "grid4", "grid5", "grid6", "grid7", "grid8", "grid4-asym", "grid3-asym-g7",
    "grid4-asym-g7-bf16", "grid8-asym", "int8", "nf4", "fp4", "nf4-double", "fp4-double", "nf4-T",
    "nf4-double-T", "grid4-act-g7", "grid3-asym-act-g7",
    // groups of a word, of some words, and longer than a row
    "grid2-asym-g16", "grid2-g48", "grid3-asym-g8", "grid4-asym-g8", "grid4-g40-bf16",
    "grid4-asym-g999", "grid5-asym-g4", "grid6-asym-g12", "grid7-asym-g36", "grid8-asym-g4"};

TEST(Kernels, DequantizeEveryCodecAsDefined) {
  for (const std::string& kind : kKinds) {
    for (const auto& [out, in] :
         {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {17, 64}, {9, 131}, {5, 300}}) {
      SCOPED_TRACE(kind + " " + std::to_string(out) + "x" + std::to_string(in));
      const Made made = make(kind, out, in, 11);
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
        const Made made = make(kind, out, in, 5);
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
    const Made made = make(kind, out, in, 21);
    const auto x = noise(tokens * in, 22);
    std::vector<float> expected(static_cast<size_t>(tokens * out)), actual(expected.size());
    const Prepared weight(made.weight);
    reference_executor().linear(rows_of(x, in), {weight}, rows_of(expected, out));
    fast_executor().linear(rows_of(x, in), {weight}, rows_of(actual, out));
    expect_near(actual, expected);
  }
}

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
  for (const int64_t tokens : {1, 5, 66, 150}) {
    for (const int64_t past : {0, 1, 70}) {
      for (const int64_t window : {0, 1, 9, 100}) {
        const AttentionShape shape{.heads = 4,
                                   .kv_heads = 2,
                                   .head_dim = 10,
                                   .window = window,
                                   .scale = 0.8f,
                                   .soft_cap = window == 9 ? 2.5f : 0.0f};
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

TEST(SlowKernels, LossesOverVocabularySlabs) {
  for (const int64_t vocab : {7, 4096, 9001}) {
    const int64_t rows = 19, hidden = 24;
    const Made made = make("dense-bf16", vocab, hidden, 51);
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
  Made made = make("dense-f32", 5000, 24, 51);
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
      const Made made = make(kind, out, in, 5);
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

TEST(SlowKernels, SameBitsForAnyNumberOfThreads) {
  const Made made = make("grid4-asym", 700, 331, 91);
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
