// Every key of a quantization_config is read, known to change nothing, or refused by name; settings
// that the tensors contradict are recognised.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/registry.h"
#include "lib/exec/cpu/dequantize.h"
#include "tests/base/context_helper.h"
#include "tests/formats/files_helper.h"
#include "tests/formats/tiny_model_helper.h"

namespace qwb {
namespace {

using testing::HasSubstr;

const std::string kUp = "model.layers.0.mlp.up_proj";

void expect_settings(const TinyModel& model, ErrorKind kind, const std::string& part) {
  const TemporaryFolder folder;
  expect_error(kind, part, [&] { open_model(model.write(folder.path() / "m")); });
}

std::string settings_told(const TinyModel& model) {
  const TemporaryFolder folder;
  Notes notes;
  open_model(model.write(folder.path() / "m"), context_telling(notes));
  return notes.all;
}

TinyModel gptq(const Json& more, uint32_t zeros = 0x77777777u) {
  TinyModel model;
  model.pack_all_gptq(zeros, more);
  return model;
}

TinyModel compressed(const Json& more, const std::string& key = "quantization_config") {
  TinyModel model;
  model.pack_all_compressed(key, more);
  return model;
}

TEST(Settings, UnknownKeysAreRefusedByName) {
  for (const Json& more :
       {Json{{"new_trick", 3}}, Json{{"new_trick", true}}, Json{{"rotation", "hadamard"}},
        Json{{"adapter", {{"name", "lora"}}}}, Json{{"pack_dtype", "int8"}},
        Json{{"checkpoint_format", "marlin"}}, Json{{"is_marlin_format", true}}})
    expect_settings(gptq(more), ErrorKind::unsupported, more.begin().key());
  EXPECT_EQ(settings_told(gptq(
                {{"new_trick", nullptr}, {"damp_percent", 0.05}, {"meta", {{"quantizer", "x"}}}})),
            "");
  for (const char* key : {"kv_cache_scheme", "sparsity_config", "transform_config"}) {
    const Json value = {{"config_groups", {{"v", 1}}}, {"format", "sparse-24-bitmask"}};
    expect_settings(compressed({{key, value}}), ErrorKind::unsupported, key);
    EXPECT_EQ(settings_told(compressed({{key, Json::object()}})), "");
    EXPECT_EQ(settings_told(compressed({{key, nullptr}})), "");
  }
  expect_settings(compressed({{"quantization_status", "calibration"}}), ErrorKind::unsupported,
                  "quantization_status");
  EXPECT_EQ(settings_told(compressed({{"quantization_status", "frozen"}})), "");
}

// As GPTQModel 7, auto-round and optimum write them beside the settings that are read.
TEST(Settings, KeysAboutTheMakingAreNoMatter) {
  const Json gptqmodel = {
      {"method", "gptq"},
      {"format", "gptq"},
      {"pack_dtype", "int32"},
      {"rotation", nullptr},
      {"mock_quantization", true},
      {"v2", true},
      {"act_group_aware", true},
      {"mse", 2.4},
      {"gptaq", {{"alpha", 0.25}, {"device", "auto"}}},
      {"moe_vram_strategy", "balanced"},
      {"quantizer", "gptqmodel:7.3.4"},
      {"meta", {{"quantizer", {"gptqmodel:7.3.4"}}, {"fallback", {{"strategy", "rtn"}}}}}};
  const Json auto_round = {{"provider", "auto-round"},
                           {"autoround_version", "0.5.1"},
                           {"data_type", "int"},
                           {"act_bits", 16},
                           {"act_data_type", "int"},
                           {"act_dynamic", true},
                           {"iters", 1000},
                           {"lr", 0.002},
                           {"amp", true},
                           {"enable_quanted_input", false},
                           {"scale_dtype", "torch.float16"},
                           {"low_gpu_mem_usage", true},
                           {"to_quant_block_names", "model.layers"}};
  const Json optimum = {{"dataset", "c4"},       {"tokenizer", "x/y"},   {"model_seqlen", 2048},
                        {"use_exllama", false},  {"backend", "auto"},    {"batch_size", 1},
                        {"max_input_length", 1}, {"use_cuda_fp16", true}};
  for (const Json& more : {gptqmodel, auto_round, optimum})
    EXPECT_EQ(settings_told(gptq(more)), "") << more;
  EXPECT_EQ(settings_told(compressed({{"provider", "x"}, {"global_compression_ratio", 1.5}})), "");
  // Neighbours of theirs that say how the weights or the inputs are to be read.
  for (const Json& more :
       {Json{{"act_bits", 8}}, Json{{"data_type", "mx_fp"}}, Json{{"super_bits", 6}},
        Json{{"static_kv_dtype", "fp8"}}, Json{{"layer_config", {{"a", 8}}}}})
    expect_settings(gptq(more), ErrorKind::unsupported, more.begin().key());
}

TEST(Settings, TwoNamesOfOneSettingAgree) {
  EXPECT_EQ(settings_told(gptq({{"w_bit", 4}, {"q_group_size", 32}, {"format", "gptq"}})), "");
  for (const Json& more : {Json{{"w_bit", 8}}, Json{{"wbits", 2}}, Json{{"q_group_size", 64}},
                           Json{{"format", "gptq_v2"}, {"checkpoint_format", "gptq"}}})
    expect_settings(gptq(more), ErrorKind::unsupported, "two names of one setting");
}

TEST(Settings, OldNameOfTheCompressionConfig) {
  EXPECT_EQ(settings_told(compressed(Json::object(), "compression_config")), "");
  TinyModel nested;
  nested.pack_all_compressed("compression_config");
  nested.config["compression_config"] = {
      {"quantization_config", nested.config["compression_config"]},
      {"sparsity_config", {{"format", "sparse-bitmask"}}}};
  expect_settings(nested, ErrorKind::unsupported, "sparsity_config");
  nested.config["compression_config"]["sparsity_config"] = Json::object();
  EXPECT_EQ(settings_told(nested), "");
  TinyModel both = compressed(Json::object(), "compression_config");
  both.config["quantization_config"] = {{"quant_method", "gptq"}};
  expect_settings(both, ErrorKind::unsupported, "different things");
}

TEST(Settings, BitsAndGroupsAreThoseOfTheTensors) {
  expect_settings(gptq({{"bits", 8}}), ErrorKind::failed,
                  "config.json says 8 bits, and the tensors have 4");
  expect_settings(gptq({{"group_size", 64}}), ErrorKind::failed, "groups of 64");
  const Json dynamic = {{"+:.*layers\\.0\\.mlp\\.up.*", {{"bits", 8}}}};
  expect_settings(gptq({{"dynamic", dynamic}}), ErrorKind::failed, kUp);
  expect_settings(gptq({{"dynamic", {{"-:.*up_proj", Json::object()}}}}), ErrorKind::failed,
                  "says that it is not");
  Json group = compressed(Json::object()).config["quantization_config"]["config_groups"]["group_0"];
  group["weights"]["num_bits"] = 8;
  expect_settings(compressed({{"config_groups", {{"g", group}}}}), ErrorKind::failed, "of 8 bits");
  group["weights"]["num_bits"] = 4;
  group["weights"]["symmetric"] = false;
  expect_settings(compressed({{"config_groups", {{"g", group}}}}), ErrorKind::failed,
                  "weight_zero_point");
  group["weights"]["symmetric"] = true;
  group["targets"] = {"re:.*self_attn.*"};
  expect_settings(compressed({{"config_groups", {{"g", group}}}}), ErrorKind::failed, "no group");
  expect_settings(compressed({{"ignore", {"re:.*up_proj$"}}}), ErrorKind::failed,
                  "says that it is not");
}

// Modules that the settings call quantized may be stored as floats; then they are floats.
TEST(Settings, PlainModulesAmongQuantizedOnesAreTold) {
  TinyModel model = gptq(Json::object());
  for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"})
    model.tensors.erase(kUp + part);
  model.add(kUp + ".weight", {128, 64});
  EXPECT_THAT(settings_told(model), HasSubstr("1 module (" + kUp + ")"));
  model.config["quantization_config"]["dynamic"] = {{"-:.*layers.0.mlp.up_proj", Json::object()}};
  EXPECT_EQ(settings_told(model), "");
}

TEST(Settings, ActivationsOfAFileAreTold) {
  TinyModel model = compressed(Json::object());
  model.config["quantization_config"]["config_groups"]["group_0"]["input_activations"] = {
      {"num_bits", 8}};
  EXPECT_THAT(settings_told(model), HasSubstr("input_activations"));
}

// The first weight of a module as it is read.
float first_weight(const TinyModel& model, std::string& told) {
  const TemporaryFolder folder;
  Notes notes;
  const OpenModel open = open_model(model.write(folder.path() / "m"), context_telling(notes));
  told = notes.all;
  const Weight weight = *open.source->quantized(kUp);
  FloatBuffer values(weight.out * weight.in);
  dequantize(weight, values.data());
  return values[0];
}

TEST(Settings, SymmetricZeroPointsOfTheOtherVersion) {
  std::string told;
  const float right = first_weight(gptq({{"checkpoint_format", "gptq"}}), told);
  EXPECT_EQ(told, "");
  EXPECT_EQ(first_weight(gptq({{"checkpoint_format", "gptq"}}, 0x88888888u), told), right);
  EXPECT_THAT(told, HasSubstr("zero points"));
  EXPECT_EQ(first_weight(gptq({{"checkpoint_format", "gptq_v2"}}, 0x88888888u), told), right);
  EXPECT_EQ(told, "");
  EXPECT_EQ(first_weight(gptq({{"checkpoint_format", "gptq_v2"}}, 0x77777777u), told), right);
  EXPECT_THAT(told, HasSubstr("zero points"));
  // Asymmetric ones are what they are, and symmetric ones lie in the middle.
  EXPECT_EQ(first_weight(gptq({{"sym", false}}, 0x88888888u), told), right - 0.015625f);
  EXPECT_EQ(told, "");
  expect_settings(gptq(Json::object(), 0x22222222u), ErrorKind::unsupported, "sym");
}

// Loaders disagree which of two groups counts, and whether g_idx does beside desc_act false.
TEST(Settings, ContradictionsThatLoadersReadDifferentlyAreRefused) {
  for (const auto& [targets, bits] : std::vector<std::pair<Json, int>>{
           {Json::array({"Linear"}), 8}, {Json::array({"Linear"}), 4}}) {
    TinyModel model = compressed(Json::object());
    Json& groups = model.config["quantization_config"]["config_groups"];
    Json second = groups.begin().value();
    second["targets"] = targets;
    second["weights"]["num_bits"] = bits;
    groups["group_9"] = second;
    if (bits == 8) {
      expect_settings(model, ErrorKind::unsupported, "'group_9'");
    } else {
      EXPECT_EQ(settings_told(model), "");  // two that say the same
    }
  }
  for (const Json& more :
       {Json{{"desc_act", false}}, Json{{"desc_act", nullptr}, {"act_order", false}},
        Json{{"desc_act", true}, {"dynamic", {{"+:.*up_proj", {{"desc_act", false}}}}}}}) {
    TinyModel model = gptq(more);
    auto* index = model.tensors.at(kUp + ".g_idx").data<int32_t>();
    std::swap(index[0], index[model.tensors.at(kUp + ".g_idx").count() - 1]);
    expect_settings(model, ErrorKind::unsupported, "desc_act false");
  }
  TinyModel ordered = gptq({{"desc_act", true}});
  auto* index = ordered.tensors.at(kUp + ".g_idx").data<int32_t>();
  std::swap(index[0], index[ordered.tensors.at(kUp + ".g_idx").count() - 1]);
  EXPECT_EQ(settings_told(ordered), "");
}

}  // namespace
}  // namespace qwb
