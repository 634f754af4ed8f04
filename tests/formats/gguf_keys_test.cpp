// Keys under the architecture's name are read, known to change nothing, or refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/gguf/architecture.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

using KeyValue = std::pair<std::string, GgufValue>;

// config.json of a golden file with one more key, or another value of it.
Json config_with(const std::string& name, const KeyValue& more) {
  const TemporaryFolder folder;
  const Path golden = Path(QWB_SOURCE_DIR) / "tests/golden/gguf" / name;
  const GgufFile file = GgufFile::open(golden);
  GgufMetadata metadata;
  for (const auto& [key, value] : file.metadata().entries()) {
    if (key != more.first) metadata.add(key, value);
  }
  metadata.add(more.first, more.second);
  std::vector<GgufTensor> tensors;
  for (const std::string& tensor : file.tensor_names()) tensors.push_back(*file.find(tensor));
  const Path path = folder.path() / "m.gguf";
  GgufWriter writer(path, metadata, tensors);
  for (size_t i = 0; i < tensors.size(); ++i)
    writer.put(i, 0, file.bytes(*file.find(tensors[i].name)));
  writer.finish();
  return huggingface_config(GgufFile::open(path), "test");
}

TEST(GgufKeys, ThoseThatChangeResultsAreRefusedByName) {
  const auto number = GgufValue::of_f32;
  const auto count = GgufValue::of_u32;
  for (const KeyValue& key :
       std::vector<KeyValue>{{"attention.causal", GgufValue::of_bool(false)},
                             {"attention.clamp_kqv", number(0.1)},
                             {"attention.max_alibi_bias", number(8)},
                             {"attention.scale", number(0.9)},
                             {"attention.scale", GgufValue::of_string("0")},
                             {"attention.temperature_scale", number(0.5)},
                             {"attn_logit_softcapping", number(2)},
                             {"embedding_scale", number(2)},
                             {"final_logit_softcapping", number(2)},
                             {"interleave_moe_layer_step", count(1)},
                             {"logit_scale", number(0.5)},
                             {"logit_scale", GgufValue::of_floats({1, 1})},
                             {"nextn_predict_layers", count(1)},
                             {"residual_scale", number(0.5)},
                             {"rope.dimension_sections", GgufValue::of_i32s({4, 4})},
                             {"rope.scaling.attn_factor", number(0.5)},
                             {"rope.scaling.yarn_log_multiplier", number(0.1)},
                             {"swiglu_clamp_limit", number(1)},
                             {"tensor_data_layout", GgufValue::of_string("another")},
                             {"use_parallel_residual", GgufValue::of_bool(true)},
                             {"foo.bar", count(0)}}) {
    const std::string name = "qwen3." + key.first;
    expect_error(ErrorKind::unsupported, "'" + name + "'", [&] {
      config_with("qwen3.gguf", {name, key.second});
    });
  }
  for (const char* type : {"adapter", "imatrix", "mmproj", "vocab"})
    expect_error(ErrorKind::unsupported, type, [&] {
      config_with("qwen3.gguf", {"general.type", GgufValue::of_string(type)});
    });
  expect_error(ErrorKind::unsupported, "gpt2.rope.freq_base", [&] {
    config_with("gpt2.gguf", {"gpt2.rope.freq_base", number(10000)});
  });
  expect_error(ErrorKind::unsupported, "beside 'rope_freqs.weight'", [&] {
    config_with("llama_llama3.gguf", {"llama.rope.scaling.type", GgufValue::of_string("linear")});
  });
}

TEST(GgufKeys, ThoseThatChangeNothingDoNotMatter) {
  const Json plain = config_with("qwen3.gguf", {"general.type", GgufValue::of_string("model")});
  for (const KeyValue& key :
       std::vector<KeyValue>{{"attention.causal", GgufValue::of_bool(true)},
                             {"attention.layer_norm_epsilon", GgufValue::of_f32(0.1)},
                             {"expert_count", GgufValue::of_u32(0)},
                             {"expert_used_count", GgufValue::of_u32(0)},
                             {"logit_scale", GgufValue::of_f32(1)},
                             {"pooling_type", GgufValue::of_u32(3)},
                             {"rope.scaling.attn_factor", GgufValue::of_f32(1)},
                             {"rope.scaling.factor", GgufValue::of_f32(1)},
                             {"rope.scaling.finetuned", GgufValue::of_bool(true)},
                             {"tensor_data_layout", GgufValue::of_string("Meta AI original pth")},
                             {"vocab_size", GgufValue::of_u32(9)}})
    EXPECT_EQ(config_with("qwen3.gguf", {"qwen3." + key.first, key.second}), plain) << key.first;
  // Keys of others' making, outside of the architecture's name.
  EXPECT_EQ(config_with("qwen3.gguf", {"quantize.imatrix.file", GgufValue::of_string("x")}), plain);
}

// As in llama.cpp, whose default type is linear.
TEST(GgufKeys, AFactorWithoutATypeIsLinear) {
  for (const char* key : {"qwen3.rope.scaling.factor", "qwen3.rope.scale_linear"}) {
    const Json config = config_with("qwen3.gguf", {key, GgufValue::of_f32(4)});
    EXPECT_EQ(config.at("rope_parameters").at("rope_type"), "linear") << key;
    EXPECT_EQ(config.at("rope_parameters").at("factor"), 4) << key;
  }
}

}  // namespace
}  // namespace qwb
