// Products on the GPU with weights of every stored form, and their values bit by bit.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "lib/codec/ggml_blocks.h"
#include "lib/exec/cpu/dequantize.h"
#include "tests/exec/executor_helper.h"
#include "tests/exec/gpu_helper.h"
#include "tests/exec/near_helper.h"
#include "tests/exec/weights_helper.h"

namespace qwb {
namespace {

// A weight by its name ("grid4-asym" as in weights_helper.h, or a type of ggml's), and what holds
// it.
struct NamedWeight {
  QuantizedTensor blocks;
  RandomWeight random;
  Weight weight;
};
NamedWeight named_weight(const std::string& kind, int64_t out, int64_t in) {
  NamedWeight made;
  const std::string type = kind.substr(0, kind.find('/'));
  if (const auto ggml = ggml_type_from_name(type)) {
    WeightLayout layout = ggml_blocks_layout(out, in, *ggml);
    if (type != kind) {  // interleaved heads
      GgmlBlocks heads = layout.get<GgmlBlocks>();
      heads.head_rows = 16;
      layout.set(std::move(heads));
    }
    made.blocks = random_weight(layout, 17);
    made.weight = made.blocks.view();
    return made;
  }
  made.random = random_weight(kind, out, in, 5);
  made.weight = made.random.weight;
  return made;
}

const std::vector<std::string> kGpuKinds = {"dense-f32",
                                            "dense-f16",
                                            "dense-bf16",
                                            "dense-f32-T",
                                            "dense-bf16-T",
                                            "grid2",
                                            "grid3",
                                            "grid4",
                                            "grid5",
                                            "grid6",
                                            "grid7",
                                            "grid8",
                                            "grid4-asym",
                                            "grid3-asym-g7",
                                            "grid4-asym-g7-bf16",
                                            "grid8-asym",
                                            "int8",
                                            "nf4",
                                            "fp4",
                                            "nf4-double",
                                            "fp4-double",
                                            "nf4-T",
                                            "nf4-double-T",
                                            "grid4-act-g7",
                                            "grid3-asym-act-g7",
                                            "grid2-asym-g32",
                                            "grid3-asym-g32",
                                            "grid5-asym-g96",
                                            "grid6-asym-g32",
                                            "grid7-asym-g32",
                                            "grid4-g32-bf16",
                                            "grid4-asym-g9999"};
const std::vector<std::string> kGgmlKinds = {
    "Q4_0", "Q4_1", "Q5_0",   "Q5_1",   "Q8_0",  "Q2_K",    "Q3_K",    "Q4_K",
    "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4", "Q4_0/16", "Q8_0/16", "Q6_K/16"};

class GpuProducts : public GpuTest {
 protected:
  // body(kind, columns) for every kind and some widths that it can have.
  template <class Body>
  static void each_weight(const std::vector<int64_t>& widths, const Body& body) {
    for (const int64_t in : widths) {
      for (const std::string& kind : kGpuKinds) body(kind, in);
    }
    for (const int64_t in : {256, 1280}) {
      for (const std::string& kind : kGgmlKinds) body(kind, in);
    }
  }
};

TEST_F(GpuProducts, WeightsHaveTheProcessorsBits) {
  each_weight({1, 131, 160, 1280}, [](const std::string& kind, int64_t in) {
    SCOPED_TRACE(kind + " " + std::to_string(in));
    const int64_t out = 48;
    const NamedWeight made = named_weight(kind, out, in);
    const Weight& weight = made.weight;
    std::vector<float> expected(static_cast<size_t>(out * in));
    dequantize(weight, expected.data());
    std::vector<int32_t> ids(static_cast<size_t>(weight.rows()));
    std::iota(ids.begin(), ids.end(), 0);
    const Matrix values = gpu()->allocate(weight.rows(), weight.columns());
    gpu()->look_up(gpu()->prepare(weight), ids, values);
    EXPECT_EQ(gpu()->download(values), expected);
  });
}

TEST_F(GpuProducts, MatchTheReference) {
  const HostedExecutor there = hosted();
  // A slice of 1024 columns, parts of one, more than one; what is packed and what is not.
  each_weight({5, 131, 160, 1280, 4128}, [&](const std::string& kind, int64_t in) {
    for (const int64_t tokens : {1, 2, 5, 8, 9, 70}) {
      if (in > 300 && tokens > 2 && tokens != 9) continue;
      const int64_t out = in > 300 ? 48 : 80;
      SCOPED_TRACE(kind + " columns " + std::to_string(in) + " tokens " + std::to_string(tokens));
      const NamedWeight made = named_weight(kind, out, in);
      const auto x = noise(tokens * in, 6), bias = noise(out, 7, 3);
      const Prepared weight = there.prepare(made.weight, Reuse::seldom);
      for (const bool add : {false, true}) {
        std::vector<float> expected = noise(tokens * out, 8), actual = expected;
        const Accumulate sum = add ? Accumulate::yes : Accumulate::no;
        const In biases = add ? rows_of(bias, out) : In();
        reference_executor().linear(rows_of(x, in), {Prepared(made.weight), biases},
                                    rows_of(expected, out), sum);
        there.linear(rows_of(x, in), {weight, biases}, rows_of(actual, out), sum);
        expect_near(actual, expected, in > 1000 ? 4e-5 : 2e-5);
      }
    }
  });
}

// Tensor cores cut sums off where other units round them: over the longest rows that models have
// their error against sums in f64 was 3.7e-7 to 4e-7 of the values on an H200, that of rounded f32
// sums (two rows of grid8, nf4 and bf16) 1.2e-7 to 1.9e-7.
TEST_F(GpuProducts, LongRowsKeepTheirPrecision) {
  const HostedExecutor there = hosted();
  const int64_t in = 14336, out = 64;
  for (const std::string kind : {"grid4", "grid4-asym-g32-bf16", "grid8", "nf4", "dense-bf16"}) {
    for (const int64_t tokens : {2, 130}) {
      const NamedWeight made = named_weight(kind, out, in);
      const auto x = noise(tokens * in, 6);
      std::vector<float> expected(static_cast<size_t>(tokens * out)), actual(expected.size());
      reference_executor().linear(rows_of(x, in), {Prepared(made.weight)}, rows_of(expected, out));
      there.linear(rows_of(x, in), {there.prepare(made.weight, Reuse::seldom)},
                   rows_of(actual, out), Accumulate::no);
      double errors = 0, values = 0;
      for (size_t i = 0; i < actual.size(); ++i) {
        const double error = static_cast<double>(actual[i]) - static_cast<double>(expected[i]);
        errors += error * error;
        values += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
      }
      const double relative = std::sqrt(errors / values);
      RecordProperty(kind + " " + std::to_string(tokens), std::to_string(relative * 1e9));
      EXPECT_LT(relative, 5e-7) << kind << " " << tokens;
    }
  }
}

TEST_F(GpuProducts, LargeMatricesCrossTiles) {
  const HostedExecutor there = hosted();
  for (const auto& [out, tokens] : {std::pair<int64_t, int64_t>{300, 261}, {2000, 1100}}) {
    const int64_t in = 517;
    const RandomWeight made = random_weight("dense-bf16", out, in, 21);
    const auto x = noise(tokens * in, 22);
    std::vector<float> expected(static_cast<size_t>(tokens * out)), actual(expected.size());
    fast_executor().linear(rows_of(x, in), {Prepared(made.weight)}, rows_of(expected, out));
    there.linear(rows_of(x, in), {there.prepare(made.weight, Reuse::seldom)}, rows_of(actual, out),
                 Accumulate::no);
    expect_near(actual, expected);
  }
}

// Several modules together, and gated, as one by one.
TEST_F(GpuProducts, ModulesTogetherAreModulesAlone) {
  const HostedExecutor there = hosted();
  for (const std::string kind : {"grid4-asym", "nf4", "int8", "dense-bf16", "Q4_0", "Q4_K"}) {
    for (const int64_t tokens : {1, 3, 20}) {
      const int64_t in = 1280;
      SCOPED_TRACE(kind + " " + std::to_string(tokens));
      const NamedWeight q = named_weight(kind, 96, in), k = named_weight(kind, 32, in),
                        other = named_weight("grid8", 32, in);
      const auto x = noise(tokens * in, 6), bias = noise(96, 9);
      const std::vector<Prepared> weights = {
          there.prepare(q.weight, {}), there.prepare(k.weight, {}), there.prepare(other.weight, {}),
          there.prepare(q.weight, {})};
      const std::vector<int64_t> sizes = {96, 32, 32, 96};
      std::vector<std::vector<float>> together, alone;
      std::vector<Executor::Output> outputs;
      for (const int64_t size : sizes)
        together.emplace_back(tokens * size), alone.emplace_back(tokens * size);
      for (size_t i = 0; i < sizes.size(); ++i)
        outputs.push_back({{weights[i], sizes[i] == 96 ? rows_of(bias, 96) : In()},
                           rows_of(together[i], sizes[i])});
      there.linears(rows_of(x, in), outputs);
      for (size_t i = 0; i < sizes.size(); ++i)
        there.linear(rows_of(x, in), outputs[i].module, rows_of(alone[i], sizes[i]),
                     Accumulate::no);
      EXPECT_EQ(together, alone);
      std::vector<float> gated(static_cast<size_t>(tokens * 96));
      const Affine up{weights[3]};
      there.gated(rows_of(x, in), &outputs[0].module, up, Activation::silu, rows_of(gated, 96));
      there.linear(rows_of(x, in), up, rows_of(together[3], 96), Accumulate::no);
      there.activate(Activation::silu, rows_of(alone[0], 96), rows_of(together[3], 96));
      EXPECT_EQ(gated, alone[0]);
    }
  }
}

TEST_F(GpuProducts, RowsOfSeveralSequencesKeepTheirBits) {
  const HostedExecutor there = hosted();
  const std::vector<int64_t> pieces = {1, 1, 6, 9, 1, 33, 2, 7, 1, 1, 1, 8, 150};
  const int64_t rows = std::accumulate(pieces.begin(), pieces.end(), int64_t{0});
  each_weight({131, 160, 1280}, [&](const std::string& kind, int64_t in) {
    const int64_t out = 48;
    SCOPED_TRACE(kind + " " + std::to_string(in));
    const NamedWeight made = named_weight(kind, out, in);
    const auto x = noise(rows * in, 6), bias = noise(out, 7), before = noise(rows * out, 8);
    const Prepared weight = there.prepare(made.weight, Reuse::seldom);
    const Affine module{weight, rows_of(bias, out)};
    std::vector<float> sums = before, alone = before, gate(before.size()), one(before.size());
    there.linear(Rows(rows_of(x, in), pieces), module, rows_of(sums, out), Accumulate::yes);
    there.gated(Rows(rows_of(x, in), pieces), &module, {weight}, Activation::silu,
                rows_of(gate, out));
    int64_t first = 0;
    for (const int64_t piece : pieces) {
      const In own = rows_of(x, in).row_range(first, piece);
      there.linear(own, module, rows_of(alone, out).row_range(first, piece), Accumulate::yes);
      there.gated(own, &module, {weight}, Activation::silu,
                  rows_of(one, out).row_range(first, piece));
      first += piece;
    }
    EXPECT_EQ(sums, alone);
    EXPECT_EQ(gate, one);
  });
}

}  // namespace
}  // namespace qwb
