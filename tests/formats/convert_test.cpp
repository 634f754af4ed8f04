// Formats of other libraries: what those libraries packed (tests/golden/convert, made by
// make_convert.py) must be read to the very values that they dequantize to, and written again to
// the very same bytes.
#include "formats/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "formats/hf/packed_source.h"
#include "formats/hf/packing.h"
#include "formats/qwb/artifact.h"
#include "lib/base/half.h"
#include "lib/base/rng.h"
#include "lib/exec/cpu/dequantize.h"
#include "tests/formats/convert_helper.h"
#include "tests/formats/files_helper.h"
#include "tests/formats/tiny_model_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

uint32_t rounded_bits(float value, DType type) {
  if (type == DType::f16) return f32_to_f16(value);
  if (type == DType::bf16) return f32_to_bf16(value);
  return std::bit_cast<uint32_t>(value);
}

// Zeros of either sign are one value.
uint32_t without_zero_sign(uint32_t bits, DType type) {
  const uint32_t sign = type == DType::f32 ? 0x80000000u : 0x8000u;
  return bits == sign ? 0 : bits;
}

void expect_same_values(const Weight& weight, const TensorView& expected,
                        const std::string& where) {
  ASSERT_EQ(expected.shape, (Shape{weight.out, weight.in})) << where;
  FloatBuffer values(weight.out * weight.in);
  dequantize(weight, values.data());
  const int64_t size = dtype_size(expected.dtype);
  int64_t different = 0;
  for (int64_t i = 0; i < values.size(); ++i) {
    const std::byte* at = expected.bytes.data() + i * size;
    const uint32_t wanted = size == 4 ? load<uint32_t>(at) : load<uint16_t>(at);
    different += without_zero_sign(rounded_bits(values[i], expected.dtype), expected.dtype) !=
                 without_zero_sign(wanted, expected.dtype);
  }
  EXPECT_EQ(different, 0) << where << ": of " << values.size() << " values";
}

std::string format_of(const std::string& name) {
  if (name.starts_with("gptq")) return name.ends_with("v1") ? "gptq-v1" : "gptq-v2";
  if (name.starts_with("awq")) return "awq";
  if (name.starts_with("bnb")) return "bitsandbytes";
  if (name.starts_with("fp8")) return "fp8";
  return name.starts_with("ct-int") ? "compressed-tensors-int" : "compressed-tensors";
}

TEST(Convert, ReadsTheValuesThatTheLibrariesSee) {
  const auto cases = packed_golden_cases();
  ASSERT_GE(cases.size(), 30u);
  for (const std::string& name : cases) {
    const OpenModel model = open_model(kPackedGolden / name);
    const auto weight = model.source->quantized(kModule);
    ASSERT_TRUE(weight.has_value()) << name;
    const SafetensorsFile file =
        SafetensorsFile::open(kPackedGolden / name / "expected.safetensors");
    expect_same_values(*weight, *file.find("weight"), name);
    EXPECT_FALSE(model.source->find(kModule + ".qweight").has_value()) << name;
    EXPECT_TRUE(model.source->find("norm.weight").has_value()) << name;
    EXPECT_EQ(model.source->quantized_layout(kModule).specs(), weight->specs()) << name;
  }
}

TEST(Convert, WritesTheBytesThatTheLibrariesPack) {
  const TemporaryFolder folder;
  for (const std::string& name : packed_golden_cases()) {
    if (name == "ct-int-8-sym-tensor")
      continue;  // one scale for a tensor comes back as one for each row
    if (name.starts_with("modelopt")) continue;  // never written
    const Path artifact = folder.path() / (name + "-qwb"), back = folder.path() / (name + "-back");
    EXPECT_TRUE(convert_folder(kPackedGolden / name, "qwb", artifact)) << name;
    EXPECT_TRUE(convert_folder(artifact, format_of(name), back)) << name;
    expect_same_folders(kPackedGolden / name, back, name);
    const Path again = folder.path() / (name + "-again");
    EXPECT_TRUE(convert_folder(back, "qwb", again)) << name;
    expect_same_folders(artifact, again, name);
    EXPECT_TRUE(damaged_files(again).empty()) << name;
  }
}

TEST(Convert, DequantizesToTheLibrarysOwnTensor) {
  const TemporaryFolder folder;
  for (const std::string name : {"gptq-4-asym-v1", "bnb-nf4-nested-64", "ct-packed-4-asym-group"}) {
    const Path out = folder.path() / name;
    const SafetensorsFile file =
        SafetensorsFile::open(kPackedGolden / name / "expected.safetensors");
    ConvertOptions options;
    options.dtype = file.find("weight")->dtype;
    EXPECT_FALSE(convert_folder(kPackedGolden / name, "huggingface", out, options));
    const OpenModel plain = open_model(out);
    EXPECT_EQ(plain.format, "huggingface");
    EXPECT_TRUE(std::ranges::equal(plain.source->find(kModule + ".weight")->bytes,
                                   file.find("weight")->bytes))
        << name;
  }
}

TEST(Convert, RefusesWhatWouldNotBeExactBeforeWritingAnything) {
  const TemporaryFolder folder;
  const auto refused = [&](const RandomGrid& shape, const char* format, const char* reason) {
    const Path artifact =
        folder.path() / (std::string(format) + std::to_string(shape.bits) + reason);
    write_artifact(artifact, random_grid(shape, 1));
    const Path out = folder.path() / "out";
    expect_error(ErrorKind::unsupported, reason, [&] { convert_folder(artifact, format, out); });
    EXPECT_FALSE(fs::exists(out));
  };
  refused({8, 64, 32, 5, true, false}, "gptq", "has 5 bits");
  refused({8, 64, 32, 8, true, false}, "awq", "has 8 bits");
  refused({8, 64, 32, 4, true, true}, "awq", "act-order");
  refused({7, 64, 32, 4, true, false}, "awq", "7 output channels");
  refused({8, 65, 32, 4, true, false}, "compressed-tensors", "do not divide");
  refused({8, 64, 32, 4, true, false}, "bitsandbytes", "integer-grid");
}

TEST(Convert, NamesScalesThatAHalfCannotHold) {
  const TemporaryFolder folder;
  const auto with_scale = [&](const char* name, float value) {
    QuantizedTensor tensor = random_grid({8, 64, 32, 4, true, false, DType::f32}, 3);
    tensor.parts.at("scales").data<float>()[5] = value;
    write_artifact(folder.path() / name, tensor);
    return folder.path() / name;
  };
  EXPECT_TRUE(convert_folder(with_scale("fits", 0.5f), "gptq", folder.path() / "fits-out"));
  const Path lossy = with_scale("lossy", 0.1f), large = with_scale("large", 1e6f);
  expect_error(ErrorKind::unsupported, "1 of 16 scales",
               [&] { convert_folder(lossy, "gptq", folder.path() / "x"); });
  expect_error(ErrorKind::unsupported, "overflows F16",
               [&] { convert_folder(large, "gptq", folder.path() / "x"); });
  ConvertOptions options;
  options.round_scales = true;
  Conversion conversion(open_model(lossy), find_format("gptq"), options);
  conversion.write(folder.path() / "rounded");
  EXPECT_FALSE(conversion.exact());
  EXPECT_GT(conversion.modules().at(0).error, 0);
  EXPECT_LT(conversion.modules().at(0).error, 1e-6);
  expect_error(ErrorKind::unsupported, "overflows F16",
               [&] { Conversion(open_model(large), find_format("gptq"), options); });
}

// Columns that do not fill their last word: what fills it is zero, whoever reads it.
TEST(Convert, PaddingOfWordsIsZero) {
  for (const int64_t row_bytes : {1, 5, 6, 7, 8, 11}) {
    Tensor rows(DType::u8, {3, row_bytes});
    for (std::byte& byte : rows.bytes()) byte = std::byte{0xff};
    const Tensor words = streams_to_columns(rows.view());
    const int64_t count = ceil_div(row_bytes, 4);
    ASSERT_EQ(words.shape(), (Shape{count, 3}));
    const uint32_t last = row_bytes % 4 == 0 ? ~0u : (1u << (8 * (row_bytes % 4))) - 1;
    for (int64_t i = 0; i < 3 * count; ++i)
      EXPECT_EQ(words.data<uint32_t>()[i], i < 3 * (count - 1) ? ~0u : last) << row_bytes;
    EXPECT_TRUE(std::ranges::equal(streams_from_columns(words.view(), row_bytes).view().bytes,
                                   rows.view().bytes));
  }
}

TEST(Convert, SplitsLargeOutputIntoShards) {
  const TemporaryFolder folder;
  ConvertOptions options;
  options.max_shard_bytes = 2000;
  EXPECT_TRUE(convert_folder(kPackedGolden / "gptq-4-asym-v1", "compressed-tensors",
                             folder.path() / "out", options));
  EXPECT_TRUE(fs::exists(folder.path() / "out/model.safetensors.index.json"));
  EXPECT_TRUE(convert_folder(folder.path() / "out", "gptq-v1", folder.path() / "back"));
  const auto left = Checkpoint::open(kPackedGolden / "gptq-4-asym-v1"),
             right = Checkpoint::open(folder.path() / "back");
  EXPECT_TRUE(std::ranges::equal(left->find(kModule + ".qweight")->bytes,
                                 right->find(kModule + ".qweight")->bytes));
}

// As qwb-quantize refuses them: a model that holds them is damaged.
TEST(Convert, NaNAndInfAreRefusedByName) {
  const std::string up = "model.layers.0.mlp.up_proj";
  for (const std::string format : {"huggingface", "qwb", "compressed-tensors"}) {
    const TemporaryFolder folder;
    TinyModel packed;
    packed.pack_all_gptq(0x77777777u);
    Tensor& scales = packed.tensors.at(up + ".scales");
    if (scales.dtype() == DType::f32) {
      scales.data<float>()[1] = std::numeric_limits<float>::infinity();
    } else {
      scales.data<uint16_t>()[1] = scales.dtype() == DType::f16 ? 0x7c00 : 0x7f80;
    }
    const Path from = packed.write(folder.path() / "m");
    expect_error(ErrorKind::failed, "NaN or Inf",
                 [&] { convert_folder(from, format, folder.path() / "out"); });
  }
  for (const std::string& name : {up + ".weight", std::string("model.norm.weight")}) {
    const TemporaryFolder folder;
    TinyModel plain;
    plain.tensors.at(name).data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
    const Path from = plain.write(folder.path() / "m");
    expect_error(ErrorKind::failed, "NaN or Inf",
                 [&] { convert_folder(from, "huggingface", folder.path() / "out"); });
  }
}

}  // namespace
}  // namespace qwb
