// Codes and statistics against bitsandbytes (CPU) and the plain definition in torch, for every
// linear layer of both demo models: bit for bit. The expected digests come from
// tests/golden/make_quantize.py.
#include <gtest/gtest.h>

#include <bit>
#include <map>

#include "lib/base/hash.h"
#include "lib/codec/float_blocks.h"
#include "lib/quantize/encode/float_blocks.h"
#include "tests/quantize/demo_helper.h"

namespace qwb {
namespace {

const Json& golden() {
  static const Json all =
      parse_json(read_text(source_path("tests/golden/quantize/expected.json")), "expected.json");
  return all;
}

std::string part_digest(const QuantizedTensor& tensor, const std::string& part) {
  return hash_hex(tensor.parts.at(part).view().bytes);
}

template <typename T>
std::string digest_of(const std::vector<T>& values) {
  return hash_hex(std::as_bytes(std::span(values)));
}

void expect_float_blocks(const ModuleTask& task, const std::string& kind, const Json& expected,
                         int block_size, bool nested) {
  const auto result =
      run_method(kind, task, {{"block_size", block_size}, {"double_quantization", nested}});
  const QuantizedTensor& tensor = result.tensor;
  EXPECT_EQ(expected["codes"], part_digest(tensor, "codes"))
      << task.info.name << " " << expected["head"];
  EXPECT_EQ(expected["absmax"], part_digest(tensor, "absmax")) << task.info.name;
  EXPECT_EQ(tensor.orientation, task.info.orientation);
  if (!nested) return;
  EXPECT_EQ(expected["nested_absmax"], part_digest(tensor, "nested_absmax")) << task.info.name;
  EXPECT_EQ(expected["nested_map"], part_digest(tensor, "nested_map")) << task.info.name;
  const auto offset = tensor.get<FloatBlocks>().nested_offset.value();
  EXPECT_EQ(std::bit_cast<uint32_t>(offset), expected["nested_offset"].get<uint32_t>())
      << task.info.name;
}

void expect_grid(const ModuleTask& task, const Json& expected, int bits, bool symmetric,
                 int group) {
  const auto result = run_method(
      "rtn", task,
      {{"bits", bits}, {"symmetric", symmetric}, {"group_size", group}, {"scale_dtype", "f32"}});
  EXPECT_EQ(expected["codes"], digest_of(grid_codes(result.tensor))) << task.info.name;
  EXPECT_EQ(expected["scales"], part_digest(result.tensor, "scales")) << task.info.name;
  if (!symmetric) {
    EXPECT_EQ(expected["zeros"], digest_of(grid_zeros(result.tensor))) << task.info.name;
  }
}

class SlowGoldenModel : public testing::TestWithParam<std::string> {};

TEST_P(SlowGoldenModel, EveryModuleHasTheExpectedBytes) {
  const DemoModel model(GetParam());
  const Json modules = golden()["modules"][GetParam()];
  EXPECT_GE(modules.size(), 16u);
  for (const Json& module : modules) {
    const std::string name = module["name"];
    const ModuleTask task = make_task(name, model.tensor(name), module["in_out"]);
    for (const std::string kind : {"nf4", "fp4"}) {
      expect_float_blocks(task, kind, module[kind]["nested"], 64, true);
      expect_float_blocks(task, kind, module[kind]["plain"], 128, false);
    }
    const auto int8 = run_method("int8", task);
    EXPECT_EQ(module["int8"]["codes"], part_digest(int8.tensor, "codes")) << name;
    EXPECT_EQ(module["int8"]["absmax"], part_digest(int8.tensor, "absmax")) << name;
    const int group = module["group"];
    expect_grid(task, module["rtn 4 symmetric"], 4, true, group);
    expect_grid(task, module["rtn 4 asymmetric"], 4, false, group);
    expect_grid(task, module["rtn 3 asymmetric"], 3, false, group);
    expect_grid(task, module["rtn 8 symmetric"], 8, true, group);
  }
}

INSTANTIATE_TEST_SUITE_P(Demo, SlowGoldenModel, testing::Values("llama", "gpt2"));

TEST(Golden, TiesZerosAndTheShortLastBlock) {
  for (const std::string kind : {"nf4", "fp4"}) {
    const auto file = MappedFile::open(source_path("tests/golden/quantize/" + kind + "_input.f32"));
    const ModuleTask task = make_task(kind, {DType::f32, {3, 1047}, file.bytes()});
    expect_float_blocks(task, kind, golden()["synthetic"][kind]["nested"], 64, true);
    expect_float_blocks(task, kind, golden()["synthetic"][kind]["plain"], 64, false);
  }
}

TEST(Golden, Int8OfEveryFloatType) {
  const DemoModel model("llama");
  const TensorView stored = model.tensor("model.layers.0.mlp.down_proj.weight");
  std::vector<float> values = read_floats(stored, "test");
  for (float& value : values) value *= 1.7f;
  const Tensor scaled = make_tensor(values, stored.shape);
  for (const auto& [torch_name, dtype] : std::map<std::string, std::string>{
           {"float32", "f32"}, {"float16", "f16"}, {"bfloat16", "bf16"}}) {
    const auto narrow = run_method("none", make_task("m", scaled.view()), {{"dtype", dtype}});
    const Tensor& weight = narrow.tensor.parts.at("weight");
    const auto result = run_method("int8", make_task("m", weight.view()));
    EXPECT_EQ(golden()["int8 types"][torch_name]["codes"], part_digest(result.tensor, "codes"))
        << torch_name;
    EXPECT_EQ(golden()["int8 types"][torch_name]["absmax"], part_digest(result.tensor, "absmax"))
        << torch_name;
  }
}

TEST(Golden, SumsInTheOrderOfPytorch) {
  std::vector<float> values(33000);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>((static_cast<uint32_t>(i) * 2654435761u) >> 8) * 0x1p-24f;
  }
  ASSERT_GT(golden()["sums"].size(), 70u);
  for (const auto& item : golden()["sums"].items()) {
    const float sum = cascade_sum(values.data(), std::stoll(item.key()));
    EXPECT_EQ(std::bit_cast<uint32_t>(sum), item.value().get<uint32_t>()) << item.key();
  }
}

}  // namespace
}  // namespace qwb
