// Weights on float grids that would be NaN, or mean something else than this build reads: refused
// by name. What they are when they are right: convert_test.cpp, by the owners' goldens.
#include "formats/hf/float_modules.h"

#include <gtest/gtest.h>

#include "formats/registry.h"
#include "tests/formats/convert_helper.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

// A copy of a golden folder with one byte of a tensor set, or its settings changed.
class FloatCopy {
 public:
  explicit FloatCopy(const std::string& golden) {
    std::filesystem::copy(kPackedGolden / golden, path());
  }
  Path path() const { return folder_.path() / "copy"; }
  void set_byte(const std::string& tensor, int64_t at, uint8_t value) const {
    const Path file = path() / "model.safetensors";
    int64_t offset = 0;
    {
      const SafetensorsFile open = SafetensorsFile::open(file);
      offset = open.find(kModule + tensor)->bytes.data() - open.mapped().bytes().data() + at;
    }
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(offset).put(static_cast<char>(value));
  }
  void set_settings(const char* pointer, const Json& value) const {
    const Path file = path() / "config.json";
    Json config = parse_json(read_text(file, 1 << 20), "config");
    config["quantization_config"][Json::json_pointer(pointer)] = value;
    write(file, config.dump());
  }
  void load() const { open_model(path()).source->load_quantized(kModule); }

 private:
  TemporaryFolder folder_;
};

TEST(FloatModules, CodesAndScalesThatAreNanAreRefused) {
  const auto refused = [](const char* golden, const char* tensor, int64_t at, uint8_t value,
                          const char* why) {
    SCOPED_TRACE(std::string(golden) + tensor);
    const FloatCopy copy(golden);
    EXPECT_NO_THROW(copy.load());
    copy.set_byte(tensor, at, value);
    expect_error(ErrorKind::failed, kModule, [&] { copy.load(); });
    expect_error(ErrorKind::failed, why, [&] { copy.load(); });
  };
  refused("ct-fp8-channel", ".weight", 5, 0x7f, "NaN");
  refused("ct-fp8-block", ".weight", 2000, 0xff, "NaN");
  refused("ct-mxfp4-group", ".weight_scale", 7, 255, "NaN");
  refused("ct-nvfp4-tensor_group", ".weight_scale", 7, 0x7f, "NaN");
  for (const auto& [golden, scale] :
       {std::pair{"modelopt-fp8", ".weight_scale"}, std::pair{"fp8-block", ".weight_scale_inv"}}) {
    const FloatCopy copy(golden);
    copy.set_byte(scale, 2, 0xff);
    copy.set_byte(scale, 3, 0x7f);
    expect_error(ErrorKind::failed, "NaN", [&] { copy.load(); });
  }
}

TEST(FloatModules, AGlobalScaleOfZeroIsRefused) {
  const FloatCopy copy("ct-nvfp4-tensor_group");
  for (int64_t at = 0; at < 4; ++at) copy.set_byte(".weight_global_scale", at, 0);
  expect_error(ErrorKind::failed, "global scale", [&] { copy.load(); });
}

TEST(FloatModules, SettingsThatAreNotUnderstoodAreRefusedByName) {
  const auto refused = [](const char* golden, const char* pointer, const Json& value,
                          const char* part) {
    SCOPED_TRACE(std::string(golden) + pointer);
    const FloatCopy copy(golden);
    copy.set_settings(pointer, value);
    expect_error(ErrorKind::unsupported, part, [&] { copy.load(); });
  };
  const std::string weights = "/config_groups/group_0/weights/";
  refused("ct-mxfp4-group", (weights + "num_bits").c_str(), 6, "floats of 6 bits");
  refused("ct-mxfp4-group", (weights + "group_size").c_str(), 64, "groups of 64");
  refused("ct-fp8-channel", (weights + "symmetric").c_str(), false, "zero points");
  refused("ct-fp8-channel", "/format", "mxfp8-quantized", "mxfp8-quantized");
  refused("ct-fp8-channel", "/kv_cache_scheme", {{"num_bits", 8}}, "kv_cache_scheme");
  refused("fp8-block", "/fmt", "e5m2", "e5m2");
  refused("fp8-block", "/expert_dtype", "fp4", "expert_dtype");
  refused("modelopt-nvfp4", "/quant_algo", "NVFP4_AWQ", "NVFP4_AWQ");
  refused("modelopt-fp8", "/kv_cache_quant_algo", "FP8", "kv_cache_quant_algo");
}

// Model Optimizer's settings before they stood in config.json.
TEST(FloatModules, ReadsSettingsBesideConfig) {
  const FloatCopy copy("modelopt-nvfp4");
  Json config = parse_json(read_text(copy.path() / "config.json", 1 << 20), "config");
  config.erase("quantization_config");
  write(copy.path() / "config.json", config.dump());
  write(copy.path() / "hf_quant_config.json",
        R"({"producer": {"name": "modelopt", "version": "0.29"}, "quantization":
            {"quant_algo": "NVFP4", "kv_cache_quant_algo": null, "group_size": 16,
             "exclude_modules": ["lm_head"]}})");
  EXPECT_EQ(open_model(copy.path()).format, "modelopt");
  EXPECT_NO_THROW(copy.load());
}

TEST(FloatModules, NotesThatActivationsStayAsTheyAre) {
  for (const char* golden : {"fp8-block", "modelopt-fp8"}) {
    const auto notes = open_model(kPackedGolden / golden).source->notes();
    ASSERT_FALSE(notes.empty()) << golden;
    EXPECT_NE(notes.back().find("weights alone"), std::string::npos);
  }
}

}  // namespace
}  // namespace qwb
