// LLM.int8's product: its integers exactly, its float part bit for bit against the same steps in
// plain loops (which holds on every instruction set), and the whole against bitsandbytes on real
// weights and activations (tests/golden/make_int8_forward.py).
#include "lib/exec/cpu/int8_product.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "formats/safetensors/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/codec/int8_rows.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/int8_simd.h"
#include "lib/exec/executor.h"
#include "tests/exec/executor_helper.h"

namespace qwb {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct CodedRows {
  std::vector<int8_t> codes;
  std::vector<float> absmax;
  Weight weight;
};

void make_view(CodedRows& rows, int64_t out, int64_t in) {
  rows.weight = {out, in, Orientation::out_in,
                 Int8Rows{{DType::i8, {out, in}, std::as_bytes(std::span(rows.codes))},
                          {DType::f32, {out}, std::as_bytes(std::span(rows.absmax))}}};
  check_weight(rows.weight, "test");
}

std::unique_ptr<CodedRows> random_rows(int64_t out, int64_t in, uint64_t seed) {
  auto rows = std::make_unique<CodedRows>();
  Rng rng(seed);
  for (int64_t k = 0; k < out * in; ++k) rows->codes.push_back(static_cast<int8_t>(rng.below(256)));
  for (int64_t o = 0; o < out; ++o) rows->absmax.push_back(static_cast<float>(0.1 + rng.uniform()));
  make_view(*rows, out, in);
  return rows;
}

std::vector<float> random_values(int64_t count, uint64_t seed, double size = 1) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(size * (2 * rng.uniform() - 1));
  return values;
}

// The steps of the definition after the activations are rounded, one by one.
std::vector<float> by_steps(const Int8Activations& x, const CodedRows& rows, const float* bias) {
  const int64_t in = x.in(), out = rows.weight.out,
                outliers = static_cast<int64_t>(x.outliers().size());
  std::vector<float> y;
  for (int64_t t = 0; t < x.tokens(); ++t) {
    for (int64_t o = 0; o < out; ++o) {
      const int8_t* row = rows.codes.data() + o * in;
      int64_t sum = 0;
      for (int64_t i = 0; i < in; ++i) sum += int64_t{x.codes(t)[i]} * row[i];
      const float absmax = rows.absmax[static_cast<size_t>(o)];
      float value = static_cast<float>(sum) * (x.absmax(t) * absmax) * (1.0f / 16129.0f);
      value += bias != nullptr ? bias[o] : 0.0f;
      float rest = 0;
      for (int64_t c = 0; c < outliers; ++c) {
        const float w = static_cast<float>(row[x.outliers()[static_cast<size_t>(c)]]) *
                        (absmax * (1.0f / 127.0f));
        rest += x.outlier_values(t)[c] * w;
      }
      y.push_back(outliers > 0 ? value + rest : value);
    }
  }
  return y;
}

std::vector<float> int8_output(const Int8Activations& x, const CodedRows& rows,
                               const float* bias = nullptr, Threads threads = {}) {
  std::vector<float> y(static_cast<size_t>(x.tokens() * rows.weight.out), kNan);
  int8_product(x, {rows.weight, 0, rows.weight.out, bias}, y.data(), rows.weight.out, false,
               threads);
  return y;
}

testing::AssertionResult same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size())
    return testing::AssertionFailure() << a.size() << " and " << b.size() << " values";
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]))
      return testing::AssertionFailure() << a[i] << " is not " << b[i] << " at " << i;
  }
  return testing::AssertionSuccess();
}

TEST(Int8Product, ExactAtTheExtremes) {
  for (const int64_t in : {1, 2, 3, 31, 63, 64, 65, 127, 129, 1000, 2047, 2048, 2049, 4095, 4096}) {
    for (const int64_t tokens : {1, 4, 7, 97}) {
      for (const int8_t code : {int8_t{127}, int8_t{-127}, int8_t{-128}}) {
        SCOPED_TRACE(std::to_string(tokens) + " tokens, " + std::to_string(in) +
                     " channels, code " + std::to_string(code));
        CodedRows rows{std::vector<int8_t>(static_cast<size_t>(5 * in), code),
                       std::vector<float>(5, 127.0f),
                       {}};
        make_view(rows, 5, in);
        std::vector<float> x(static_cast<size_t>(tokens * in), -1.0f);
        const auto y = int8_output(Int8Activations(x.data(), tokens, in, 0), rows);
        const float expected =
            static_cast<float>(-127 * int64_t{code} * in) * 127.0f * (1.0f / 16129.0f);
        for (const float value : y) ASSERT_EQ(value, expected);
      }
    }
  }
}

TEST(SlowInt8Product, EveryStepOverOddSizes) {
  for (const auto& [tokens, out, in] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1},
                                        {1, 3, 5},
                                        {2, 65, 63},
                                        {3, 64, 64},
                                        {6, 130, 300},
                                        {7, 4, 65},
                                        {8, 63, 129},
                                        {13, 67, 2049},
                                        {97, 33, 100},
                                        {100, 128, 192},
                                        {386, 70, 77},
                                        {5, 9, 4100}}) {
    for (const float threshold : {0.0f, 0.9f, 0.25f, 6.0f}) {
      SCOPED_TRACE(std::to_string(tokens) + " tokens, " + std::to_string(out) + "x" +
                   std::to_string(in) + ", threshold " + std::to_string(threshold));
      const auto rows = random_rows(out, in, 3);
      const auto x = random_values(tokens * in, 4), bias = random_values(out, 5);
      const Int8Activations codes(x.data(), tokens, in, threshold);
      EXPECT_TRUE(same_bits(int8_output(codes, *rows), by_steps(codes, *rows, nullptr)));
      EXPECT_TRUE(
          same_bits(int8_output(codes, *rows, bias.data()), by_steps(codes, *rows, bias.data())));
    }
  }
}

// The reference sums in f64, the fast path rounds each step: three products, a bias and up to 300
// outliers in f32 err by less than 300 * 2^-24 = 2e-5 of the sum of magnitudes, in practice a tenth
// of that.
TEST(Int8Product, AgreesWithTheReference) {
  const int64_t tokens = 9, out = 21, in = 300;
  const auto rows = random_rows(out, in, 6);
  const auto x = random_values(tokens * in, 7, 8), bias = random_values(out, 8);
  for (const float threshold : {0.0f, 6.0f, 7.99f, 1.0f}) {
    const auto y =
        int8_output(Int8Activations(x.data(), tokens, in, threshold), *rows, bias.data());
    std::vector<float> expected(y.size());
    reference_int8_product(x.data(), tokens, rows->weight, threshold, bias.data(), expected.data());
    for (size_t i = 0; i < y.size(); ++i)
      ASSERT_NEAR(y[i], expected[i], 1e-4) << i << ", threshold " << threshold;
  }
}

TEST(Int8Product, SameBitsOnAnyNumberOfThreads) {
  const int64_t tokens = 401, out = 200, in = 333;
  const auto rows = random_rows(out, in, 9);
  auto x = random_values(tokens * in, 10, 4);
  x[5] = x[700] = x[90000] = 9;
  std::vector<std::vector<float>> results;
  for (const int count : {1, 2, 7}) {
    const Threads threads(count);
    results.push_back(
        int8_output(Int8Activations(x.data(), tokens, in, 6, threads), *rows, nullptr, threads));
  }
  EXPECT_TRUE(same_bits(results[1], results[0]));
  EXPECT_TRUE(same_bits(results[2], results[0]));
}

TEST(Int8Product, OutlierColumnsAreThoseOfAnyToken) {
  const int64_t in = 70;
  std::vector<float> x(static_cast<size_t>(3 * in), 0.5f);
  x[3] = 6;  // reaches the threshold in f16 and exactly
  x[in + 69] = -7;
  x[2 * in + 8] = 5.9999f;  // 6 in f16
  x[2 * in + 9] = 5.99f;
  const Int8Activations codes(x.data(), 3, in, 6);
  EXPECT_THAT(codes.outliers(), testing::ElementsAre(3, 8, 69));
  EXPECT_EQ(codes.absmax(0), 0.5f);
  EXPECT_EQ(codes.absmax(1), 0.5f);
  EXPECT_EQ(codes.absmax(2), f16_to_f32(f32_to_f16(5.99f)));
  for (const int64_t column : {3, 8, 69}) {
    for (int64_t t = 0; t < 3; ++t) EXPECT_EQ(codes.codes(t)[column], 0);
  }
  EXPECT_EQ(codes.codes(0)[0], 127);
  EXPECT_EQ(codes.codes(2)[9], 127);
  EXPECT_EQ(codes.outlier_values(2)[1], 5.9999f)
      << "the products of outliers take the value itself";
  EXPECT_TRUE(Int8Activations(x.data(), 3, in, 0).outliers().empty());
  EXPECT_EQ(Int8Activations(x.data(), 3, in, 0).absmax(1), 7);
  // One token of the batch alone has other outliers.
  EXPECT_THAT(Int8Activations(x.data(), 1, in, 6).outliers(), testing::ElementsAre(3));
}

TEST(Int8Product, AllOutliersAreThePlainProduct) {
  const int64_t tokens = 4, out = 10, in = 90;
  const auto rows = random_rows(out, in, 11);
  auto x = random_values(tokens * in, 12);
  for (float& value : x) value += value < 0 ? -6 : 6;
  const Int8Activations codes(x.data(), tokens, in, 6);
  EXPECT_EQ(codes.outliers().size(), static_cast<size_t>(in));
  for (int64_t t = 0; t < tokens; ++t) EXPECT_EQ(codes.absmax(t), 0);
  const auto y = int8_output(codes, *rows);
  std::vector<float> plain(y.size());
  reference_executor().linear(rows_of(x, in), {Prepared(rows->weight)}, rows_of(plain, out));
  for (size_t i = 0; i < y.size(); ++i)
    EXPECT_NEAR(y[i], plain[i], 1e-3);  // of sums of magnitudes of 300
}

TEST(Int8Product, ZeroRowsGiveTheBias) {
  const int64_t out = 6, in = 40;
  const auto rows = random_rows(out, in, 13);
  std::vector<float> x(static_cast<size_t>(8 * in)), bias = random_values(out, 14);
  x[5 * in] = 1e-9f;  // zero in f16
  for (const float threshold : {0.0f, 6.0f}) {
    const auto y = int8_output(Int8Activations(x.data(), 8, in, threshold), *rows, bias.data());
    for (int64_t t = 0; t < 8; ++t) {
      for (int64_t o = 0; o < out; ++o)
        EXPECT_EQ(y[static_cast<size_t>(t * out + o)], bias[static_cast<size_t>(o)]);
    }
  }
  int8_product(Int8Activations(x.data(), 0, in, 6), {rows->weight, 0, out}, nullptr, out, false);
}

TEST(Int8Product, WhatIsNotFiniteShowsInItsRowOnly) {
  const int64_t out = 5, in = 100;
  const auto rows = random_rows(out, in, 15);
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    for (const float threshold : {0.0f, 6.0f}) {
      for (const int64_t at : {0, 63, 99}) {
        auto x = random_values(9 * in, 16);
        x[static_cast<size_t>(4 * in + at)] = bad;
        const auto y = int8_output(Int8Activations(x.data(), 9, in, threshold), *rows);
        for (size_t i = 0; i < y.size(); ++i) {
          ASSERT_EQ(std::isfinite(y[i]), i / out != 4)
              << bad << " at " << at << ", threshold " << threshold << ", " << i;
        }
      }
    }
  }
}

TEST(Int8Product, ValuesBeyondF16StayThemselves) {
  CodedRows rows{{127, 127}, {1.0f}, {}};
  make_view(rows, 1, 2);
  const std::vector<float> x = {1e6f, -65519.0f, 1e33f, 1e30f};
  const auto off = int8_output(Int8Activations(x.data(), 2, 2, 0), rows);
  EXPECT_NEAR(off[0] / (127 - 8) * 127, 1e6f, 1);  // codes 127 and -8
  EXPECT_NEAR(off[1] / 1e33f, 1, 1e-6);
  EXPECT_NEAR(int8_output(Int8Activations(x.data(), 2, 2, 6), rows)[0], 1e6f - 65519.0f, 1);
}

TEST(Int8Product, RejectsThresholdsAndSizesThatMakeNoSense) {
  const std::vector<float> x(4);
  for (const float threshold : {-1.0f, kNan, kInfinity}) {
    EXPECT_THROW(Int8Activations(x.data(), 1, 4, threshold), Error);
    EXPECT_THROW(make_int8_executor(threshold, Threads()), Error);
  }
  const std::vector<float> wide(140000);
  EXPECT_THROW(Int8Activations(wide.data(), 1, 140000, 6), Error);
}

TEST(Int8Product, RoundsToF16) {
  std::vector<float> values = random_values(1 << 16, 17, 70000);
  Rng rng(18);
  for (size_t i = 0; i < values.size() / 2; ++i)
    values[i] = std::bit_cast<float>(static_cast<uint32_t>(rng.next()));
  for (uint32_t half = 0; half < 0x7c00; half += 7) {  // each value, and halfway to the next
    const float low = f16_to_f32(static_cast<uint16_t>(half)),
                high = f16_to_f32(static_cast<uint16_t>(half + 1));
    values.insert(values.end(), {low, -low});
    if (half + 1 < 0x7c00) values.insert(values.end(), {(low + high) / 2, -(low + high) / 2});
  }
  values.insert(values.end(), {65519.99f, 65520.0f, -65520.0f, kInfinity, -kInfinity, kNan, -0.0f});
  values.resize((values.size() + 63) / 64 * 64);
  auto rounded = values;
  simd::round_to_f16(rounded.data(), static_cast<int64_t>(rounded.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    const float half = f16_to_f32(f32_to_f16(values[i]));
    const float expected = std::isfinite(half) ? half : values[i];
    ASSERT_EQ(std::bit_cast<uint32_t>(rounded[i]), std::bit_cast<uint32_t>(expected)) << values[i];
  }
}

TEST(Int8Product, ExecutorUsesItForInt8RowsOnly) {
  const int64_t out = 77, in = 130;
  const auto executor = make_int8_executor(0.8f, Threads());
  const auto rows = random_rows(out, in, 19);
  std::vector<float> dense(static_cast<size_t>(out * in));
  dequantize(rows->weight, dense.data());
  Weight plain{out, in, Orientation::out_in,
               DenseWeight{{DType::f32, {out, in}, std::as_bytes(std::span(dense))}}};
  for (const int64_t tokens : {1, 7, 40}) {
    const auto x = random_values(tokens * in, 20), bias = random_values(out, 21),
               start = random_values(tokens * out, 22);
    std::vector<float> y(static_cast<size_t>(tokens * out)), other = y;
    const Int8Activations codes(x.data(), tokens, in, 0.8f);
    const Prepared coded(rows->weight), floats(plain);
    const Affine module{coded, rows_of(bias, out)}, other_module{floats, rows_of(bias, out)};
    executor->linear(rows_of(x, in), module, rows_of(y, out));
    EXPECT_TRUE(same_bits(y, int8_output(codes, *rows, bias.data())));
    auto sum = start;
    executor->linear(rows_of(x, in), module, rows_of(sum, out), Accumulate::yes);
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(sum[i], start[i] + y[i]);

    executor->linear(rows_of(x, in), other_module, rows_of(y, out));
    fast_executor().linear(rows_of(x, in), other_module, rows_of(other, out));
    EXPECT_TRUE(same_bits(y, other));
  }
  EXPECT_THAT(executor->identity(), testing::EndsWith("-int8"));
}

TEST(Int8Product, ExecutorUsesItForLosses) {
  const int64_t vocab = 5000, in = 60, tokens = 9;  // more than a slice of the vocabulary
  const auto executor = make_int8_executor(6, Threads());
  const auto rows = random_rows(vocab, in, 23);
  const auto x = random_values(tokens * in, 24, 7);
  std::vector<int32_t> targets = {0, 4999, 4095, 4096, 17, 1234, 2, 3, 4};
  std::vector<double> losses(targets.size());
  executor->losses(rows_of(x, in), Prepared(rows->weight), targets, {}, losses);
  std::vector<float> logits(static_cast<size_t>(tokens * vocab));
  executor->linear(rows_of(x, in), {Prepared(rows->weight)}, rows_of(logits, vocab));
  for (size_t t = 0; t < targets.size(); ++t) {
    double sum = 0, wanted = logits[t * vocab + static_cast<size_t>(targets[t])];
    for (int64_t v = 0; v < vocab; ++v)
      sum += std::exp(static_cast<double>(logits[t * vocab + static_cast<size_t>(v)]) - wanted);
    EXPECT_NEAR(losses[t], std::log(sum), 1e-4);
  }
}

class Int8Golden : public testing::TestWithParam<const char*> {
 protected:
  TensorView tensor(const std::string& part) const {
    const auto view = file_.find(GetParam() + ("." + part));
    if (!view) throw Error(ErrorKind::not_found, part);
    return *view;
  }
  std::vector<float> floats(const std::string& part) const {
    return read_floats(tensor(part), part);
  }

  SafetensorsFile file_ =
      SafetensorsFile::open(Path(QWB_SOURCE_DIR) / "tests/golden/int8/forward.safetensors");
};

// Codes, row maxima and outlier columns are bitsandbytes' own. Its output is f16: rounded when the
// integer product is scaled, the outliers' weights rounded, the sum rounded again, each by at most
// 2^-11 of its magnitude; its CPU path multiplies by 6.200124e-05 where 1 / 127^2 is 6.2000124e-05
// (1.8e-5 more).
TEST_P(Int8Golden, SameAsBitsandbytes) {
  const TensorView codes = tensor("codes");
  Weight weight{codes.shape[0], codes.shape[1], Orientation::out_in,
                Int8Rows{codes, tensor("absmax")}};
  check_weight(weight, GetParam());
  const auto x = floats("x");
  const int64_t in = weight.in, out = weight.out, tokens = static_cast<int64_t>(x.size()) / in;
  const auto bias = file_.find(std::string(GetParam()) + ".bias")
                        ? floats("bias")
                        : std::vector<float>(static_cast<size_t>(out));
  std::vector<float> dense(static_cast<size_t>(out * in));
  dequantize(weight, dense.data());
  for (const int threshold : {6, 0}) {
    SCOPED_TRACE(threshold);
    const std::string suffix = std::to_string(threshold);
    const Int8Activations a(x.data(), tokens, in, static_cast<float>(threshold));
    const auto* their_codes =
        reinterpret_cast<const int8_t*>(tensor("codes" + suffix).bytes.data());
    const auto their_rows = floats("rows" + suffix);
    for (int64_t t = 0; t < tokens; ++t) {
      ASSERT_EQ(a.absmax(t), their_rows[static_cast<size_t>(t)]);
      for (int64_t i = 0; i < in; ++i)
        ASSERT_EQ(a.codes(t)[i], their_codes[t * in + i]) << t << ", " << i;
    }
    if (threshold > 0) {
      const TensorView outliers = tensor("outliers");
      ASSERT_EQ(outliers.count(), static_cast<int64_t>(a.outliers().size()) + 1);
      for (size_t c = 0; c < a.outliers().size(); ++c)
        ASSERT_EQ(a.outliers()[c], load<int32_t>(outliers.bytes.data() + 4 * c));
    }
    std::vector<float> y(static_cast<size_t>(tokens * out));
    int8_product(a, {weight, 0, out, bias.data()}, y.data(), out, false);
    const auto theirs = floats("y" + suffix);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t o = 0; o < out; ++o) {
        const auto at = static_cast<size_t>(t * out + o);
        double outliers = 0, sizes = 0;
        for (size_t c = 0; c < a.outliers().size(); ++c) {
          const double term =
              static_cast<double>(a.outlier_values(t)[c]) *
              static_cast<double>(dense[static_cast<size_t>(o * in + a.outliers()[c])]);
          outliers += term;
          sizes += std::abs(term);
        }
        const double value = static_cast<double>(y[at]), scaled = value - outliers;
        const double margin =
            0x1p-11 * (std::abs(value) + (a.outliers().empty() ? 0 : std::abs(scaled)) + sizes) +
            2e-5 *
                (std::abs(scaled) + std::abs(static_cast<double>(bias[static_cast<size_t>(o)]))) +
            1e-7;
        ASSERT_NEAR(value, theirs[at], margin) << "token " << t << ", output " << o;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Int8Product, Int8Golden,
                         testing::Values("gpt2_fc", "gpt2_down_none", "gpt2_qkv_many", "llama_q",
                                         "llama_down", "llama_gate"),
                         [](const auto& golden) { return std::string(golden.param); });

}  // namespace
}  // namespace qwb
