// An architecture from outside of the product goes the whole way, GGUF included: toy_architecture()
// below and one line that names it (add_architecture).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "formats/gguf/file.h"
#include "formats/registry.h"
#include "formats/safetensors/safetensors.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/jobs/convert_job.h"
#include "lib/jobs/quantize_job.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

// A llama whose output projection has another name, and whose logits are capped.
Architecture toy_architecture() {
  GgufSpec gguf = llama_family_gguf("plaything", "ToyForCausalLM", GgufLayout::heads);
  for (GgufTensorName& tensor : gguf.layer) {
    if (tensor.gguf == "attn_output") tensor = {"attn_out", "self_attn.out_proj"};
  }
  gguf.settings.push_back({.key = "final_logit_softcapping",
                           .config = "toy_cap",
                           .value = &ModelConfig::logit_soft_cap,
                           .kind = GgufSetting::Kind::number});
  return {"toy",
          [](const Json& config, const std::string& where) {
            ModelConfig out = parse_llama_family(config, where, {});
            out.logit_soft_cap = static_cast<float>(config_number(config, "toy_cap", where, 9));
            return out;
          },
          [](const ModelConfig& config, const TensorSource&) {
            ModelSpec spec = llama_family_spec(config, {});
            for (size_t i = 0; i < spec.blocks.size(); ++i)
              std::get<AttentionSpec>(spec.blocks[i].sublayers[0].mixer).output.module =
                  "model.layers." + std::to_string(i) + ".self_attn.out_proj";
            return spec;
          },
          gguf};
}

constexpr float kToyCap = 2.3f;

// The demo model as a toy.
void write_toy(const Path& folder) {
  std::filesystem::copy(testing::demo("llama"), folder);
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::remove(folder / name);
  const OpenModel llama = open_model(testing::demo("llama"));
  Json config = llama.config;
  config["model_type"] = "toy";
  config["architectures"] = {"ToyForCausalLM"};
  config["toy_cap"] = kToyCap;
  write_file_atomically(folder / "config.json", as_bytes(config.dump()));
  const auto renamed = [](std::string name) {
    const size_t at = name.find(".o_proj.");
    return at == std::string::npos ? name : name.replace(at, 8, ".out_proj.");
  };
  std::vector<PartSpec> specs;
  for (const std::string& name : llama.source->names()) {
    const TensorView view = llama.source->find(name).value();
    specs.push_back({renamed(name), view.dtype, view.shape});
  }
  SafetensorsWriter writer(folder / "model.safetensors", specs);
  for (const std::string& name : llama.source->names())
    writer.put(renamed(name), llama.source->find(name).value().bytes);
  writer.finish();
}

std::vector<float> logits_of(const OpenModel& open) {
  const std::vector<int32_t> tokens = {1, 300, 17, 4000, 5, 66, 7, 1234};
  const auto model = Model::load(open.source, open.config, "toy");
  const Executor& executor = model->executor();
  KvCache cache = model->new_cache(8);
  const Matrix hidden = executor.allocate(8, model->config().hidden);
  const Matrix logits = executor.allocate(8, model->config().vocab);
  model->forward(tokens, cache, hidden);
  model->logits(hidden, logits);
  return executor.download(logits);
}

std::vector<float> values_of_module(const OpenModel& open, const std::string& module) {
  const LoadedWeight loaded = open.source->load_quantized(module);
  std::vector<float> values(static_cast<size_t>(loaded.weight.count()));
  dequantize(loaded.weight, values.data());
  return values;
}

// The quantized modules have the same names and values, and the model computes the same.
void expect_equal_models(const OpenModel& a, const OpenModel& b) {
  ASSERT_EQ(a.source->quantized_modules(), b.source->quantized_modules());
  EXPECT_EQ(a.source->quantized_modules().size(), 56u);
  for (const std::string& module : a.source->quantized_modules())
    EXPECT_EQ(values_of_module(a, module), values_of_module(b, module)) << module;
  EXPECT_EQ(a.source->names(), b.source->names());
  const std::vector<float> x = logits_of(a), y = logits_of(b);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-4) << i;
}

bool convert_toy(const Path& from, const char* format, const Path& place) {
  ConvertJob job({.model = from, .format = format}, Context());
  job.write(place);
  return job.report().at("exact").get<bool>();
}

TEST(ForeignArchitecture, GoesTheWholeWay) {
  const testing::Scratch scratch("foreign_architecture");
  const Path toy = scratch.path() / "toy", artifact = scratch.path() / "artifact",
             file = scratch.path() / "toy.gguf", again = scratch.path() / "again",
             twice = scratch.path() / "twice.gguf";
  write_toy(toy);
  try {
    Model::load(open_model(toy).source, open_model(toy).config, "toy");
    FAIL() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_THAT(error.what(), HasSubstr("architecture 'toy' is not known"));
  }

  add_architecture(toy_architecture());

  EXPECT_THROW(add_architecture(toy_architecture()), Error);
  const std::vector<float> plain = logits_of(open_model(testing::demo("llama"))),
                           capped = logits_of(open_model(toy));
  for (size_t i = 0; i < plain.size(); ++i)
    ASSERT_NEAR(capped[i], kToyCap * std::tanh(plain[i] / kToyCap), 1e-5) << i;

  const QuantizeJob rtn({.model = toy, .plan = {.method = &find_method("rtn")}}, Context());
  rtn.write(artifact, Context());
  const OpenModel quantized = open_model(artifact);
  EXPECT_TRUE(convert_toy(artifact, "gguf", file));
  const GgufFile stored = GgufFile::open(file);
  EXPECT_EQ(stored.metadata().text("general.architecture", "test"), "plaything");
  EXPECT_EQ(stored.metadata().integer("plaything.block_count", "test"), 8);
  EXPECT_NE(stored.find("blk.7.attn_out.weight"), nullptr);
  const OpenModel read = open_model(file);
  EXPECT_EQ(read.config.at("model_type"), "toy");
  EXPECT_EQ(read.config.at("toy_cap"), 2.3);
  expect_equal_models(quantized, read);
  EXPECT_TRUE(convert_toy(file, "qwb", again));
  expect_equal_models(quantized, open_model(again));
  EXPECT_TRUE(convert_toy(again, "gguf", twice));
  EXPECT_EQ(GgufFile::open(twice).tensor_names(), stored.tensor_names());
}

}  // namespace
}  // namespace qwb
