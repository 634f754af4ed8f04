// What architectures say of themselves for GGUF (lib/model/gguf_spec.h): found by their names,
// tensors named both ways, and refused by name without it.
#include "formats/gguf/architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

GgufMetadata file_of(const std::string& name, std::optional<int64_t> window = {}) {
  GgufMetadata metadata;
  metadata.add("general.architecture", GgufValue::of_string(name));
  if (window) metadata.add(name + ".attention.sliding_window", GgufValue::of_u32(*window));
  return metadata;
}

const GgufSpec& spec_of(const char* type) {
  return gguf_spec({{"model_type", type}}, "config.json");
}

TEST(GgufArchitecture, IsFoundByItsNameAndTheMark) {
  const auto found = [](const GgufMetadata& metadata) {
    return architecture_of_gguf(metadata, "test").name;
  };
  for (const char* name : {"llama", "qwen2", "qwen3", "gpt2"})
    EXPECT_EQ(found(file_of(name)), name);
  EXPECT_EQ(found(file_of("llama", 0)), "llama");
  EXPECT_EQ(found(file_of("llama", 9)), "mistral");
  EXPECT_EQ(found(file_of("qwen2", 9)), "qwen2");  // llama.cpp does not read it there
  expect_error(ErrorKind::unsupported, "known: llama (Mistral too), qwen2, qwen3, gpt2",
               [] { architecture_of_gguf(file_of("gemma2"), "test"); });
  for (const char* name : {"mixtral", "gemma2", "bloom"})
    expect_error(ErrorKind::unsupported, "these can: llama, mistral, qwen2, qwen3, gpt2",
                 [&] { spec_of(name); });
}

std::string settings_of(const Json& config) {
  GgufMetadata metadata;
  add_gguf_settings(gguf_spec(config, "test"), parse_config(config, "test"), "test", metadata, {});
  std::string keys;
  for (const auto& [key, value] : metadata.entries()) keys += key + "\n";
  return keys;
}

// The key for the window holds for all layers, and is there only where there is one.
TEST(GgufArchitecture, AWindowIsThatOfAllLayersOrRefused) {
  Json config = {{"model_type", "mistral"},  {"hidden_size", 64},        {"num_hidden_layers", 2},
                 {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"sliding_window", 16}};
  const char* key = "llama.attention.sliding_window";
  EXPECT_THAT(settings_of(config), testing::EndsWith(key + std::string("\n")));
  const char *full = "full_attention", *slides = "sliding_attention";
  config["layer_types"] = {slides, slides};
  EXPECT_THAT(settings_of(config), testing::HasSubstr(key));
  config["layer_types"] = {full, full};
  EXPECT_THAT(settings_of(config), testing::Not(testing::HasSubstr(key)));
  for (const Json& some : {Json{full, slides}, Json{slides, full}}) {
    config["layer_types"] = some;
    expect_error(ErrorKind::unsupported, "a window in some layers only has no place in GGUF",
                 [&] { settings_of(config); });
  }
  config["layer_types"] = {slides, slides};
  config["hidden_act"] = "gelu";
  expect_error(ErrorKind::unsupported, "this activation has no place in GGUF",
               [&] { settings_of(config); });
}

// Of config.json nothing stays open.
TEST(GgufArchitecture, EverySettingIsFilledIn) {
  for (const Architecture& architecture : architectures()) {
    if (!architecture.gguf) continue;
    std::set<std::string> filled = {"model_type", "vocab_size"};
    for (const GgufSetting& setting : architecture.gguf->settings) filled.insert(setting.config);
    for (const auto& [key, value] : architecture.gguf->config.items()) {
      if (value.is_null()) {
        EXPECT_TRUE(filled.contains(key)) << architecture.name << ": " << key;
      }
    }
  }
}

// Otherwise no rule would tell which architecture a file has, or which tensor is meant.
TEST(GgufArchitecture, NamesAreUnique) {
  std::set<std::string> unmarked, marked;
  for (const Architecture& architecture : architectures()) {
    if (!architecture.gguf) continue;
    const GgufSpec& spec = *architecture.gguf;
    EXPECT_TRUE((spec.mark ? marked : unmarked).insert(spec.name).second) << architecture.name;
    std::set<std::string> here, there;
    for (const auto* rows : {&spec.top, &spec.layer}) {
      for (const GgufTensorName& row : *rows) {
        EXPECT_TRUE(here.insert(row.gguf).second) << row.gguf;
        EXPECT_TRUE(there.insert(row.huggingface).second) << row.huggingface;
      }
    }
  }
  for (const std::string& name : marked) EXPECT_TRUE(unmarked.contains(name)) << name;
}

TEST(GgufArchitecture, TensorsAreNamedBothWays) {
  for (const Architecture& architecture : architectures()) {
    if (!architecture.gguf) continue;
    const GgufSpec& spec = *architecture.gguf;
    for (const GgufTensorName& row : spec.layer) {
      for (const std::string ending : {".weight", ".bias"}) {
        const std::string gguf = "blk.12." + row.gguf + ending,
                          huggingface = spec.layer_prefix + "12." + row.huggingface + ending;
        EXPECT_EQ(huggingface_tensor_name(spec, gguf).value().name, huggingface);
        EXPECT_EQ(gguf_tensor_name(spec, huggingface).value().name, gguf);
      }
    }
    EXPECT_EQ(gguf_tensor_name(spec, "lm_head.weight").value().name, "output.weight");
    for (const char* name : {"blk.0.attn_q", "blk.00.attn_norm.weight", "blk.x.attn_norm.weight",
                             "blk.0.token_embd.weight", "attn_norm.weight", "rope_freqs.weight"})
      EXPECT_FALSE(huggingface_tensor_name(spec, name)) << name;
  }
  const GgufSpec &gpt2 = spec_of("gpt2"), &mistral = spec_of("mistral"), &qwen = spec_of("qwen3");
  EXPECT_EQ(gguf_tensor_name(gpt2, "h.3.attn.c_attn.weight").value().name, "blk.3.attn_qkv.weight");
  EXPECT_EQ(gguf_tensor_name(gpt2, "wpe.weight").value().name, "position_embd.weight");
  EXPECT_FALSE(gguf_tensor_name(gpt2, "transformer.lm_head.weight"));
  const auto layout = [](const GgufSpec& spec, const char* name) {
    return huggingface_tensor_name(spec, name).value().layout;
  };
  EXPECT_EQ(layout(gpt2, "blk.0.ffn_up.weight"), GgufLayout::transposed);
  EXPECT_EQ(layout(gpt2, "blk.0.ffn_up.bias"), GgufLayout::plain);
  EXPECT_EQ(layout(mistral, "blk.0.attn_k.bias"), GgufLayout::heads);
  EXPECT_EQ(layout(mistral, "blk.0.attn_v.weight"), GgufLayout::plain);
  EXPECT_EQ(layout(qwen, "blk.0.attn_k.weight"), GgufLayout::plain);
}

}  // namespace
}  // namespace qwb
