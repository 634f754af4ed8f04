// Merged models against adapters beside them, and against PEFT; what a merge keeps; sums,
// truncations and extractions of adapters. Merged in f32, only the order of sums differs: 1e-5 of
// the largest logit.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/convert.h"
#include "lib/adapt/attach.h"
#include "lib/adapt/combine.h"
#include "lib/adapt/merge_report.h"
#include "lib/adapt/merged_source.h"
#include "lib/adapt/svd.h"
#include "lib/base/half.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/codec/merged_weight.h"
#include "lib/exec/cpu/dequantize.h"
#include "tests/adapt/golden_adapter_helper.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

std::vector<float> merged_logits(const OpenModel& open, const AdapterGolden& golden) {
  const auto model = Model::load(open.source, open.config, "merged",
                                 make_executor(ExecutorKind::fast, Threads(2)));
  return logits_of(*model, golden.tokens);
}

TEST(Merge, InF32IsTheAdapterBesideTheModel) {
  for (const auto& [base, name] : {std::pair("llama", "llama_patterns"), std::pair("gpt2", "gpt2"),
                                   std::pair("qwen3", "qwen3")}) {
    const AdapterGolden golden(base, name);
    const Adapter adapter = golden.read();
    const auto model = golden.model();
    attach(adapter, 0.5, *model);
    attach(adapter, 0.25, *model);
    const std::vector<float> unmerged = logits_of(*model, golden.tokens);
    const std::vector<WeightedAdapter> both = {{adapter, 0.5}, {adapter, 0.25}};
    const float most = 1e-5f * largest(unmerged);
    for (const auto form : {MergedSource::Form::modules, MergedSource::Form::tensors}) {
      const OpenModel merged = merged_model(golden.base, both, form);
      EXPECT_LE(largest_difference(merged_logits(merged, golden), unmerged), most) << name;
    }
    TemporaryFolder scratch;
    Conversion conversion(merged_model(golden.base, both, MergedSource::Form::modules),
                          find_format("huggingface"), {});
    conversion.write(scratch.path() / "merged");
    const OpenModel written = open_model(scratch.path() / "merged");
    EXPECT_LE(largest_difference(merged_logits(written, golden), unmerged), most) << name;
    EXPECT_EQ(written.source->names(), golden.base.source->names());
  }
}

// What is cached is found by it.
TEST(Merge, TheHashTellsTheSmallestDifferenceOfWeights) {
  const AdapterGolden golden("llama", "llama");
  const Adapter adapter = golden.read();
  const auto hash = [&](double weight) {
    return merged_model(golden.base, {{adapter, weight}}, MergedSource::Form::modules)
        .source->content_hash({}, {});
  };
  EXPECT_EQ(hash(1e-8), hash(1e-8));
  EXPECT_NE(hash(1e-8), hash(2e-8));
}

TEST(Merge, ReplacedModulesAreThoseOfPeft) {
  const AdapterGolden golden("llama", "llama_saved");
  const Adapter adapter = golden.read();
  EXPECT_TRUE(adapter.replaced.contains("lm_head.weight"));
  const OpenModel merged = merged_model(golden.base, {{adapter, 1}}, MergedSource::Form::modules);
  EXPECT_LE(largest_difference(merged_logits(merged, golden), golden.logits),
            1e-4f * largest(golden.logits));
  const auto model = golden.model();
  expect_error(ErrorKind::unsupported, "qwb-merge", [&] { attach(adapter, 1, *model); });
}

// The fast decoder against the codec's own loops, on a part of odd sizes.
TEST(MergedWeightCodec, DecodesAsItSays) {
  constexpr int64_t kOut = 7, kIn = 37, kRank = 3;
  Rng rng(5);
  const auto random = [&](Shape shape) {
    Tensor tensor(DType::f32, std::move(shape));
    for (int64_t i = 0; i < tensor.count(); ++i)
      tensor.data<float>()[i] = static_cast<float>(rng.uniform() - 0.5);
    return tensor;
  };
  const Tensor w = random({kOut, kIn}), left = random({kOut, kRank}), right = random({kRank, kIn});
  MergedWeight merged;
  merged.base = std::make_shared<const DenseWeight>(w.view());
  merged.left = left.view(), merged.right = right.view();
  const Weight weight(kOut, kIn, Orientation::out_in, merged);
  check_weight(weight, "test");
  std::vector<float> fast(kOut * kIn), part(5);
  std::vector<double> plain(kIn);
  dequantize(weight, fast.data());
  dequantize_part(weight, 4, 30, 5, part.data());
  for (int64_t r = 0; r < kOut; ++r) {
    weight.encoding->decode_row(weight, r, plain.data());
    for (int64_t c = 0; c < kIn; ++c) {
      double sum = w.data<float>()[r * kIn + c];
      for (int64_t k = 0; k < kRank; ++k)
        sum += static_cast<double>(left.data<float>()[r * kRank + k]) *
               static_cast<double>(right.data<float>()[k * kIn + c]);
      EXPECT_NEAR(plain[c], sum, 1e-15);
      EXPECT_NEAR(fast[r * kIn + c], sum, 2e-7);
    }
  }
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(part[i], fast[4 * kIn + 30 + i]);
}

TEST(MergeReport, TellsWhatTheTypeKeeps) {
  const AdapterGolden golden("llama", "llama");
  // Additions of about 2^-9 of the weights: bf16 rounds many of them away.
  const std::vector<WeightedAdapter> little = {{golden.read(), 0.003}};
  const OpenModel open = merged_model(golden.base, little, MergedSource::Form::modules);
  const auto& source = dynamic_cast<const MergedSource&>(*open.source);
  const std::vector<ModuleMerge> wide = measure_merge(source, DType::f32, nullptr, {});
  const std::vector<ModuleMerge> narrow = measure_merge(source, DType::bf16, nullptr, {});
  ASSERT_EQ(wide.size(), 14U);
  for (size_t i = 0; i < wide.size(); ++i) {
    EXPECT_NEAR(wide[i].kept, 1, 1e-3);
    EXPECT_FALSE(wide[i].base_error);
    const Weight before = source.base_weight(wide[i].module);
    const Weight after = source.merged_weight(wide[i].module);
    double kept = 0, deltas = 0;
    std::vector<double> w(static_cast<size_t>(before.in)), sum(w.size());
    for (int64_t r = 0; r < before.out; ++r) {
      before.encoding->decode_row(before, r, w.data());
      after.encoding->decode_row(after, r, sum.data());
      for (size_t c = 0; c < w.size(); ++c) {
        const double d = sum[c] - w[c];
        kept += (bf16_to_f32(f32_to_bf16(static_cast<float>(sum[c]))) - w[c]) * d;
        deltas += d * d;
      }
    }
    EXPECT_NEAR(narrow[i].kept, kept / deltas, 1e-3) << wide[i].module;
    EXPECT_NEAR(wide[i].delta, std::sqrt(deltas), 1e-6 * std::sqrt(deltas));
  }
  // Beside a base whose values differ by exactly twice what is added: here, the merge itself.
  const auto twice =
      merged_model(golden.base, {{golden.read(), 0.006}}, MergedSource::Form::modules);
  for (const ModuleMerge& m : measure_merge(source, DType::f32, twice.source.get(), {}))
    EXPECT_NEAR(m.base_error.value(), 2, 1e-3) << m.module;
  const OpenModel large =
      merged_model(golden.base, {{golden.read(), 1e6}}, MergedSource::Form::modules);
  expect_error(ErrorKind::failed, "does not fit F16", [&] {
    measure_merge(dynamic_cast<const MergedSource&>(*large.source), DType::f16, nullptr, {});
  });
}

std::vector<double> delta_of(const AdapterModule& m, double weight) {
  std::vector<double> delta(static_cast<size_t>(m.out * m.in));
  for (int64_t o = 0; o < m.out; ++o) {
    for (int64_t k = 0; k < m.rank; ++k) {
      for (int64_t i = 0; i < m.in; ++i)
        delta[o * m.in + i] += weight * m.scale * static_cast<double>(m.b[o * m.rank + k]) *
                               static_cast<double>(m.a[k * m.in + i]);
    }
  }
  return delta;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, all = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference += (a[i] - b[i]) * (a[i] - b[i]), all += a[i] * a[i];
  return std::sqrt(difference / all);
}

TEST(Combine, SumsExactlyAndCutsWhereItMust) {
  const AdapterGolden one("llama", "llama"), two("llama", "llama_patterns");
  const std::vector<WeightedAdapter> both = {{one.read(), 0.5}, {two.read(), -2}};
  const Adapter sum = stacked(both);
  const CombinedAdapter whole = truncated(both, 32, {}), cut = truncated(both, 2, {});
  ASSERT_EQ(sum.modules.size(), 14U);
  for (size_t i = 0; i < sum.modules.size(); ++i) {
    std::vector<double> expected;
    for (const WeightedAdapter& w : both) {
      for (const AdapterModule& m : w.adapter.modules) {
        if (m.module != sum.modules[i].module) continue;
        const std::vector<double> part = delta_of(m, w.weight);
        expected.resize(part.size());
        for (size_t k = 0; k < part.size(); ++k) expected[k] += part[k];
      }
    }
    EXPECT_LE(distance(expected, delta_of(sum.modules[i], 1)), 1e-6);
    EXPECT_LE(distance(expected, delta_of(whole.adapter.modules[i], 1)), 1e-6);
    EXPECT_NEAR(whole.kept[i].share, 1, 1e-12);
    // What is cut off is what the energy says.
    const double lost = distance(expected, delta_of(cut.adapter.modules[i], 1));
    EXPECT_NEAR(lost * lost, 1 - cut.kept[i].share, 1e-6);
    EXPECT_GT(lost, 0.01);
  }
}

TEST(Combine, ExtractionFindsTheAdapterAgain) {
  const AdapterGolden golden("gpt2", "gpt2");
  const Adapter adapter = golden.read();
  const OpenModel tuned = merged_model(golden.base, {{adapter, 1}}, MergedSource::Form::tensors);
  std::vector<AdaptableModule> modules = golden.modules();
  std::erase_if(modules, [](const AdaptableModule& m) { return m.head; });
  const CombinedAdapter found =
      extracted(*golden.base.source, *tuned.source, modules, 4, {.threads = Threads(2)});
  ASSERT_EQ(found.adapter.modules.size(), adapter.modules.size());
  for (size_t i = 0; i < adapter.modules.size(); ++i) {
    EXPECT_LE(distance(delta_of(adapter.modules[i], 1), delta_of(found.adapter.modules[i], 1)),
              1e-5);
    EXPECT_NEAR(found.kept[i].share, 1, 1e-9);
  }
  expect_error(ErrorKind::failed, "the two models are the same",
               [&] { extracted(*golden.base.source, *golden.base.source, modules, 4, {}); });
}

// A matrix with the singular values 10, 5, 1 and 0.1.
TEST(SmallSvd, FindsWhatIsThere) {
  ColumnMatrix u(9, 4), v(6, 4);
  Rng rng(3);
  for (ColumnMatrix* side : {&u, &v}) {
    for (double& value : side->values) value = rng.uniform() - 0.5;
    orthonormalize(*side);
  }
  const std::vector<double> s = {10, 5, 1, 0.1};
  ColumnMatrix left = u;
  for (int64_t k = 0; k < 4; ++k) {
    for (int64_t r = 0; r < 9; ++r) left.column(k)[r] *= s[k];
  }
  const Svd svd = svd_of_product(left, v);
  for (size_t k = 0; k < s.size(); ++k) EXPECT_NEAR(svd.s[k], s[k], 1e-12);
  for (int64_t k = 0; k < 4; ++k) {
    double cosine = 0;
    for (int64_t r = 0; r < 9; ++r) cosine += svd.u.column(k)[r] * u.column(k)[r];
    EXPECT_NEAR(std::abs(cosine), 1, 1e-12);
  }
}

}  // namespace
}  // namespace qwb
