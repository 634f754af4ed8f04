// A codec from outside of the product goes the whole way: quantized, saved, loaded, evaluated,
// converted where its values may go, and refused by name where they cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "formats/convert.h"
#include "lib/codec/registry.h"
#include "lib/evaluate/perplexity.h"
#include "lib/evaluate/subject.h"
#include "lib/evaluate/text.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/quantize/encode/module_weight.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/evaluate/row_tables_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

// Sixteen levels from the least to the greatest value of every row.
class Tables : public Method {
 public:
  std::string name() const override { return "tables"; }
  std::string summary() const override { return "for this test"; }
  int version() const override { return 1; }
  std::vector<Parameter> parameters() const override { return {}; }
  double bits(const Settings& /*settings*/) const override { return 4; }
  WeightLayout layout(const ModuleInfo& module, const Settings& /*settings*/) const override {
    return testing::row_tables_layout(module.out, module.in);
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override {
    ModuleResult result;
    result.tensor = QuantizedTensor(layout(task.info, settings));
    const int64_t in = task.info.in;
    auto* codes = result.tensor.parts.at("codes").data<uint8_t>();
    auto* tables = result.tensor.parts.at("tables").data<float>();
    for_rows_out_in(task, [&](int64_t first, int64_t last, const float* rows) {
      for (int64_t o = first; o < last; ++o) {
        const float* row = rows + (o - first) * in;
        const auto [low, high] = std::minmax_element(row, row + in);
        const float step = (*high - *low) / 15;
        for (int64_t c = 0; c < 16; ++c) tables[16 * o + c] = *low + step * static_cast<float>(c);
        std::fill_n(codes + o * ceil_div(in, 2), ceil_div(in, 2), uint8_t{0});
        for (int64_t i = 0; i < in; ++i) {
          const auto code = static_cast<int>(std::lround((row[i] - *low) / step));
          codes[o * ceil_div(in, 2) + i / 2] |= static_cast<uint8_t>(code << (i % 2 * 4));
        }
      }
    });
    return result;
  }
};

double perplexity_of(const Path& folder) {
  const Subject subject = open_subject(folder, true, Context());
  const EvaluationText text = read_evaluation_text(testing::demo("text/eval.txt"));
  const TokenPlan plan =
      make_plan({"windows", 256, 0, 3}, subject.model->config(), *subject.tokenizer, text);
  return measure_perplexity(*subject.model, plan, Context()).value.value;
}

std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported) << error.what();
    return error.what();
  }
  return "was not refused";
}

TEST(ForeignCodec, GoesTheWholeWay) {
  const testing::Scratch scratch("foreign_codec");
  const Path tables = scratch.path() / "tables", again = scratch.path() / "again",
             plain = scratch.path() / "plain";
  EXPECT_THAT(
      refusal([&] { testing::make_artifact(testing::demo("llama"), Tables(), tables, ""); }),
      HasSubstr("unknown codec 'row-tables'"));

  add_codec(codec_of<testing::RowTables>());

  testing::make_artifact(testing::demo("llama"), Tables(), tables, "");
  const OpenModel open = open_model(tables);
  const std::string name = "model.layers.1.mlp.down_proj";
  const Weight weight = open.source->quantized(name).value();
  const auto& form = weight.get<testing::RowTables>();
  std::vector<float> values(static_cast<size_t>(weight.count()));
  dequantize(weight, values.data());
  const Bytes codes = form.codes.bytes, levels = form.tables.bytes;
  EXPECT_EQ(values[weight.in + 1],
            load<float>(levels.data() + 4 * (16 + (static_cast<int>(codes[weight.in / 2]) >> 4))));

  // The values are what is evaluated: a plain copy of them has the same perplexity.
  ConvertOptions floats;
  floats.dtype = DType::f32;
  Conversion(open, find_format("huggingface"), floats).write(plain);
  const double measured = perplexity_of(tables);
  EXPECT_NEAR(measured, perplexity_of(plain), 1e-5 * measured);
  const double original = perplexity_of(testing::demo("llama"));
  EXPECT_GT(measured, original);
  EXPECT_LT(measured, 1.3 * original);

  for (const ModelFormat& format : model_formats()) {
    if (format.name == "qwb" || format.name == "huggingface" || !format.writer) continue;
    EXPECT_THAT(refusal([&] { Conversion(open, format, {}); }), HasSubstr("row-tables"))
        << format.name;
  }
  Conversion copy(open, find_format("qwb"), {});
  EXPECT_TRUE(copy.exact());
  copy.write(again);
  const OpenModel copied = open_model(again);
  ASSERT_EQ(copied.source->quantized_modules(), open.source->quantized_modules());
  for (const std::string& module : open.source->quantized_modules()) {
    const Weight before = open.source->quantized(module).value();
    const Weight after = copied.source->quantized(module).value();
    const auto& kept = before.get<testing::RowTables>();
    const auto& got = after.get<testing::RowTables>();
    EXPECT_TRUE(std::ranges::equal(kept.codes.bytes, got.codes.bytes)) << module;
    EXPECT_TRUE(std::ranges::equal(kept.tables.bytes, got.tables.bytes)) << module;
  }
}

}  // namespace
}  // namespace qwb
