// Numbers too small for the type that is to hold them are refused by every writer, as numbers too
// large are; dead channels beside living ones are not.
#include "lib/tensor/small_numbers.h"

#include <gtest/gtest.h>

#include "formats/convert.h"
#include "lib/quantize/encode/kept_values.h"
#include "lib/quantize/method.h"
#include "tests/formats/convert_helper.h"
#include "tests/formats/files_helper.h"
#include "tests/formats/tiny_model_helper.h"

namespace qwb {
namespace {

const std::string kTinyUp = "model.layers.0.mlp.up_proj";

// The module's weights times `factor`: all of them, or the first row's.
TinyModel scaled(float factor, bool whole = true) {
  TinyModel model;
  Tensor& weight = model.tensors.at(kTinyUp + ".weight");
  for (int64_t i = 0; i < (whole ? weight.count() : weight.shape()[1]); ++i)
    weight.data<float>()[i] *= factor;
  return model;
}

void quantize_up(const TinyModel& model, const std::string& method, const Json& given) {
  const Tensor& weight = model.tensors.at(kTinyUp + ".weight");
  ModuleTask task;
  task.info = {kTinyUp, weight.shape()[0], weight.shape()[1], Orientation::out_in, DType::f32,
               false};
  task.weight = weight.view();
  const Method& chosen = find_method(method);
  quantize_module(chosen, task, resolve_settings(chosen, given));
}

TEST(SmallNumbers, CoarseScalesAreThoseNearTheLeastNumber) {
  EXPECT_TRUE(is_coarse_scale(0, DType::f16, 4));
  EXPECT_TRUE(is_coarse_scale(0x1p-22f, DType::f16, 4));
  EXPECT_FALSE(is_coarse_scale(0x1p-21f, DType::f16, 4));
  EXPECT_TRUE(is_coarse_scale(0x1p-18f, DType::f16, 8));
  EXPECT_FALSE(is_coarse_scale(0x1p-17f, DType::f16, 8));
  EXPECT_FALSE(is_coarse_scale(1e-30f, DType::bf16, 8));
  EXPECT_FALSE(is_coarse_scale(1e-30f, DType::f32, 8));
}

TEST(SmallNumbers, MethodsRefuseWhatTheirScalesCannotHold) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const bool symmetric : {true, false}) {
      Json given = {
          {"bits", bits}, {"group_size", 32}, {"symmetric", symmetric}, {"scale_dtype", "f16"}};
      expect_error(ErrorKind::failed, "--scale-dtype",
                   [&] { quantize_up(scaled(1e-8f), "rtn", given); });
      EXPECT_NO_THROW(quantize_up(scaled(1), "rtn", given));
      EXPECT_NO_THROW(quantize_up(scaled(1e-9f, false), "rtn", given)) << "one dead row";
      for (const char* type : {"bf16", "f32"}) {
        given["scale_dtype"] = type;
        EXPECT_NO_THROW(quantize_up(scaled(1e-8f), "rtn", given));
      }
    }
  }
  expect_error(ErrorKind::failed, kTinyUp, [&] {
    quantize_up(scaled(1e-7f), "none", {{"dtype", "f16"}});
  });
  EXPECT_NO_THROW(quantize_up(scaled(1e-7f), "none", {{"dtype", "bf16"}}));
  for (const char* method : {"nf4", "int8"}) {
    EXPECT_NO_THROW(quantize_up(scaled(1e-30f), method, Json::object()));
  }
}

// Subnormal scales pass as long as they cost less than a bit of precision.
TEST(SmallNumbers, LostPrecisionCounts) {
  const Json given = {{"bits", 4}, {"group_size", 32}, {"symmetric", true}, {"scale_dtype", "f16"}};
  EXPECT_NO_THROW(quantize_up(scaled(2e-3f), "rtn", given));
  EXPECT_NO_THROW(quantize_up(scaled(1e-4f), "rtn", given));
  expect_error(ErrorKind::failed, "too small", [&] { quantize_up(scaled(2e-6f), "rtn", given); });
}

void to_gguf(const TinyModel& model, GgmlType type) {
  const TemporaryFolder folder;
  write(model.write(folder.path() / "m") / "tokenizer.json",
        read_text(Path(QWB_SOURCE_DIR) / "recipes/demo/llama/tokenizer.json"));
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy_file(Path(QWB_SOURCE_DIR) / "recipes/demo/llama" / file,
                               folder.path() / "m" / file,
                               std::filesystem::copy_options::overwrite_existing);
  write_gguf(open_model(folder.path() / "m"), folder.path() / "m.gguf", gguf_type(type));
}

TinyModel with_vocabulary(TinyModel model) {
  model.config["vocab_size"] = 4096;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    model.add(name, {4096, 64});
    model.fill(name, 0.05f);
  }
  return model;
}

TEST(SlowSmallNumbers, GgufRefusesWhatVanishesAndWhatOverflows) {
  for (const GgmlType type : {GgmlType::f16, GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0,
                              GgmlType::q5_1, GgmlType::q8_0}) {
    expect_error(ErrorKind::failed, kTinyUp,
                 [&] { to_gguf(with_vocabulary(scaled(1e-9f)), type); });
    expect_error(ErrorKind::failed, kTinyUp, [&] { to_gguf(with_vocabulary(scaled(1e9f)), type); });
    EXPECT_NO_THROW(to_gguf(with_vocabulary(scaled(1e-9f, false)), type)) << "one dead row";
  }
  EXPECT_NO_THROW(to_gguf(with_vocabulary(scaled(1e-9f)), GgmlType::bf16));
}

TEST(SmallNumbers, BitsandbytesMultipliesBeforeItDivides) {
  const TemporaryFolder folder;
  QuantizedTensor tensor = random_int8(8, 64, 1);
  auto* absmax = tensor.parts.at("absmax").data<float>();
  absmax[5] = 2e36f;
  write_artifact(folder.path() / "near", tensor);
  EXPECT_NO_THROW(convert_folder(folder.path() / "near", "bitsandbytes", folder.path() / "a"));
  absmax[5] = 3e36f;
  write_artifact(folder.path() / "far", tensor);
  expect_error(ErrorKind::failed, kModule,
               [&] { convert_folder(folder.path() / "far", "bitsandbytes", folder.path() / "b"); });
}

TEST(SmallNumbers, ConversionsRefuseWhatVanishes) {
  const TemporaryFolder folder;
  ConvertOptions options;
  options.dtype = DType::f16;
  const auto convert = [&](const TinyModel& model) {
    Conversion conversion(open_model(model.write(folder.path() / "m")), find_format("huggingface"),
                          options);
    options.replace = true;
    conversion.write(folder.path() / "out");
  };
  EXPECT_NO_THROW(convert(scaled(1)));
  EXPECT_NO_THROW(convert(scaled(1e-9f, false)));
  expect_error(ErrorKind::failed, "choose --dtype", [&] { convert(scaled(1e-9f)); });
  TinyModel norm;
  norm.add("model.norm.weight", {64}, 1e-9f);
  expect_error(ErrorKind::failed, "model.norm.weight", [&] { convert(norm); });
}

}  // namespace
}  // namespace qwb
