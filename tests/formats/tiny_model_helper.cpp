#include "tests/formats/tiny_model_helper.h"

#include "formats/safetensors/safetensors.h"
#include "lib/base/half.h"
#include "lib/base/rng.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

constexpr int64_t kHidden = 64, kInner = 128, kVocabulary = 48, kTinyLayers = 2;

Shape linear_shape(const std::string& module) {
  if (module.ends_with("down_proj")) return {kHidden, kInner};
  if (module.ends_with("gate_proj") || module.ends_with("up_proj")) return {kInner, kHidden};
  if (module.ends_with("k_proj") || module.ends_with("v_proj")) return {kHidden / 2, kHidden};
  return {kHidden, kHidden};
}

}  // namespace

std::vector<std::string> tiny_linears() {
  std::vector<std::string> names;
  for (int64_t layer = 0; layer < kTinyLayers; ++layer) {
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      names.push_back("model.layers." + std::to_string(layer) + "." + name);
  }
  return names;
}

TinyModel::TinyModel() {
  config = {{"architectures", {"LlamaForCausalLM"}},
            {"model_type", "llama"},
            {"hidden_size", kHidden},
            {"intermediate_size", kInner},
            {"num_hidden_layers", kTinyLayers},
            {"num_attention_heads", 2},
            {"num_key_value_heads", 1},
            {"vocab_size", kVocabulary},
            {"max_position_embeddings", 64},
            {"rms_norm_eps", 1e-5},
            {"tie_word_embeddings", false},
            {"torch_dtype", "float32"}};
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    add(name, {kVocabulary, kHidden});
    fill(name, 0.05f);
  }
  add("model.norm.weight", {kHidden}, 1);
  for (int64_t layer = 0; layer < kTinyLayers; ++layer) {
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      add("model.layers." + std::to_string(layer) + "." + norm + ".weight", {kHidden}, 1);
  }
  for (const std::string& module : tiny_linears()) {
    add(module + ".weight", linear_shape(module));
    fill(module + ".weight", 0.05f);
  }
}

void TinyModel::add(const std::string& name, const Shape& shape, float value, DType type) {
  Tensor tensor(type, shape);
  if (type == DType::f32) std::fill_n(tensor.data<float>(), tensor.count(), value);
  if (type == DType::f16) std::fill_n(tensor.data<uint16_t>(), tensor.count(), f32_to_f16(value));
  tensors.insert_or_assign(name, std::move(tensor));
}

void TinyModel::fill(const std::string& name, float size) {
  Rng rng(std::hash<std::string>{}(name));
  Tensor& tensor = tensors.at(name);
  for (int64_t i = 0; i < tensor.count(); ++i)
    tensor.data<float>()[i] = size * static_cast<float>(2 * rng.uniform() - 1);
}

void TinyModel::pack_gptq(const std::string& module, uint32_t zeros) {
  const Shape shape = linear_shape(module);
  const int64_t out = shape[0], in = shape[1];
  tensors.erase(module + ".weight");
  Tensor words(DType::i32, {in / 8, out}), zero_words(DType::i32, {in / 32, out / 8}),
      index(DType::i32, {in});
  Rng rng(7);
  for (int64_t i = 0; i < words.count(); ++i)
    words.data<uint32_t>()[i] = static_cast<uint32_t>(rng.next());
  std::fill_n(zero_words.data<uint32_t>(), zero_words.count(), zeros);
  for (int64_t i = 0; i < in; ++i) index.data<int32_t>()[i] = static_cast<int32_t>(i / 32);
  tensors.insert_or_assign(module + ".qweight", std::move(words));
  tensors.insert_or_assign(module + ".qzeros", std::move(zero_words));
  tensors.insert_or_assign(module + ".g_idx", std::move(index));
  add(module + ".scales", {in / 32, out}, 0.015625f, DType::f16);
}

void TinyModel::pack_all_gptq(uint32_t zeros, const Json& more) {
  for (const std::string& module : tiny_linears()) pack_gptq(module, zeros);
  Json settings = {{"quant_method", "gptq"},
                   {"bits", 4},
                   {"group_size", 32},
                   {"sym", true},
                   {"desc_act", false}};
  settings.update(more);
  config["quantization_config"] = settings;
}

void TinyModel::pack_all_compressed(const std::string& key, const Json& more) {
  for (const std::string& module : tiny_linears()) {
    const Shape shape = linear_shape(module);
    tensors.erase(module + ".weight");
    Tensor words(DType::i32, {shape[0], shape[1] / 8}), size(DType::i64, {2});
    std::fill_n(words.data<uint32_t>(), words.count(), 0x76543210u);
    size.data<int64_t>()[0] = shape[0];
    size.data<int64_t>()[1] = shape[1];
    tensors.insert_or_assign(module + ".weight_packed", std::move(words));
    tensors.insert_or_assign(module + ".weight_shape", std::move(size));
    add(module + ".weight_scale", {shape[0], shape[1] / 32}, 0.015625f);
  }
  const Json weights = {{"num_bits", 4},
                        {"type", "int"},
                        {"symmetric", true},
                        {"strategy", "group"},
                        {"group_size", 32}};
  Json settings = {
      {"quant_method", "compressed-tensors"},
      {"format", "pack-quantized"},
      {"quantization_status", "compressed"},
      {"ignore", {"lm_head"}},
      {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}}};
  settings.update(more);
  config[key] = settings;
}

Path TinyModel::write(const Path& folder) const {
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  qwb::write(folder / "config.json", config.dump());
  std::vector<PartSpec> specs;
  for (const auto& [name, tensor] : tensors)
    specs.push_back({name, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(folder / "model.safetensors", specs);
  for (const auto& [name, tensor] : tensors) writer.put(name, tensor.view().bytes);
  writer.finish();
  return folder;
}

}  // namespace qwb
