// Keys under the architecture's name are read, known to change nothing, or refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/gguf/architecture.h"
#include "formats/gguf/model.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

using KeyValue = std::pair<std::string, GgufValue>;

// A golden file with another value of a key, or without it, and one more tensor of f32.
Path write_changed(const Path& folder, const std::string& name, const std::string& changed,
                   const std::optional<GgufValue>& to, const std::string& more = {}) {
  const GgufFile file = GgufFile::open(Path(QWB_SOURCE_DIR) / "tests/golden/gguf" / name);
  GgufMetadata metadata;
  for (const auto& [key, value] : file.metadata().entries()) {
    if (key != changed) metadata.add(key, value);
  }
  if (to) metadata.add(changed, *to);
  std::vector<GgufTensor> tensors;
  for (const std::string& tensor : file.tensor_names()) tensors.push_back(*file.find(tensor));
  const size_t count = tensors.size();
  if (!more.empty()) tensors.push_back({more, {4}, GgmlType::f32, 0, 0});
  const Path path = folder / "m.gguf";
  std::filesystem::remove(path);
  GgufWriter writer(path, metadata, tensors);
  for (size_t i = 0; i < count; ++i) writer.put(i, 0, file.bytes(*file.find(tensors[i].name)));
  if (!more.empty()) writer.put(count, 0, as_bytes(std::string(16, '\0')));
  writer.finish();
  return path;
}

// config.json of a golden file with one more key, or another value of it.
Json config_with(const std::string& name, const KeyValue& more) {
  const TemporaryFolder folder;
  const Path path = write_changed(folder.path(), name, more.first, more.second);
  return huggingface_config(GgufFile::open(path), "test");
}
Json config_without(const std::string& name, const std::string& key) {
  const TemporaryFolder folder;
  return huggingface_config(GgufFile::open(write_changed(folder.path(), name, key, {})), "test");
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

TEST(GgufKeys, WhatTheArchitectureCannotDoIsRefused) {
  const auto count = GgufValue::of_u32;
  for (const std::string name : {"qwen3", "llama"}) {
    const std::string file = name == "llama" ? "llama_llama3.gguf" : "qwen3.gguf";
    for (const auto& [key, words] :
         {std::pair{".attention.value_length", "values of another length than keys"},
          {".rope.dimension_count", "a partial rotary embedding"},
          {".expert_count", "a mixture of experts"}})
      expect_error(ErrorKind::unsupported, words, [&, at = name + key] {
        config_with(file, {at, count(2)});
      });
  }
  expect_error(ErrorKind::failed, "attention.head_count must be positive", [&] {
    config_with("gpt2.gguf", {"gpt2.attention.head_count", count(0)});
  });
}

TEST(GgufKeys, ThoseThatAreMissingHaveTheirMeaningOrAreNamed) {
  const Json plain = config_with("qwen3.gguf", {"general.type", GgufValue::of_string("model")});
  Json expected = plain;
  expected["num_key_value_heads"] = plain.at("num_attention_heads");
  EXPECT_NE(expected, plain);
  EXPECT_EQ(config_without("qwen3.gguf", "qwen3.attention.head_count_kv"), expected);
  const Json keys = config_without("llama_llama3.gguf", "llama.attention.key_length");
  EXPECT_EQ(keys.at("head_dim"),
            keys.at("hidden_size").get<int64_t>() / keys.at("num_attention_heads").get<int64_t>());
  for (const std::string key : {"value_length", "head_count_kv"})
    EXPECT_NO_THROW(config_without("llama_llama3.gguf", "llama.attention." + key));
  for (const char* key : {"qwen3.block_count", "qwen3.attention.layer_norm_rms_epsilon"})
    expect_error(ErrorKind::failed, key, [&] { config_without("qwen3.gguf", key); });
}

// Only where there is a rotation do its divisors say something.
TEST(GgufKeys, DivisorsOfNoRotationAreRefused) {
  const TemporaryFolder folder;
  const Path path =
      write_changed(folder.path(), "gpt2.gguf", "general.type", {}, "rope_freqs.weight");
  expect_error(ErrorKind::unsupported, "'rope_freqs.weight' has no counterpart in a gpt2",
               [&] { GgufModel::open(path); });
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
