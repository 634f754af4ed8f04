// Gemma 2: norms before and after each mixer, their gains 1 + weight, embeddings times
// sqrt(hidden), every second layer with a sliding window, soft caps on attention scores and logits
// (transformers: Gemma2Config). Gemma 3's text models: the same with norms on every head of q and
// k instead of the caps, five of six layers with a window and a rotary embedding of their own
// (Gemma3TextConfig).
#include <cmath>

#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

// fallback: 0 means none.
float parse_cap(const Json& config, const char* key, double fallback, const std::string& where) {
  if (config.contains(key) && config.at(key).is_null()) return 0;
  if (!config.contains(key) && fallback == 0) return 0;
  const double cap = json_number(config, key, where, fallback);
  if (!(cap > 0))
    throw Error(ErrorKind::failed, std::string("'") + key + "' must be positive", where);
  return static_cast<float>(cap);
}

void refuse_gemma_switches(const Json& config, const std::string& where) {
  if (config_switch(config, "attention_bias", where, false))
    throw Error(ErrorKind::unsupported, "'attention_bias' of Gemma is not supported", where);
  if (json_bool(config, "use_bidirectional_attention", where, false))
    throw Error(ErrorKind::unsupported, "'use_bidirectional_attention' is not supported", where);
}

void parse_gemma_scales(const Json& config, const std::string& where, ModelConfig& out) {
  const double scalar = config_number(config, "query_pre_attn_scalar", where, 256);
  if (!(scalar > 0))
    throw Error(ErrorKind::failed, "'query_pre_attn_scalar' must be positive", where);
  out.attention_scale = static_cast<float>(std::pow(scalar, -0.5));
  out.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(out.hidden)));
}

ModelConfig parse_gemma2(const Json& config, const std::string& where) {
  refuse_gemma_switches(config, where);
  refuse_nested_rope(config, where);
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 256000,
                                        .hidden = 2304,
                                        .intermediate = 9216,
                                        .layers = 26,
                                        .heads = 8,
                                        .kv_heads = 4,
                                        .head_dim = 256,
                                        .positions = 8192,
                                        .bos = 2,
                                        .eos = 1,
                                        .null_kv_heads = false,
                                        .whole_heads = true,
                                        .tied = true,
                                        .activation_key = "hidden_activation",
                                        .activation = "gelu_pytorch_tanh"});
  const int64_t window = window_size(config, where, 4096);
  if (window == 0) throw Error(ErrorKind::failed, "Gemma 2 needs a 'sliding_window'", where);
  const auto slides = sliding_layers(config, where, out.layers);
  for (size_t i = 0; i < out.window.size(); ++i) {
    if (slides ? (*slides)[i] : i % 2 == 0) out.window[i] = window;
  }
  parse_gemma_scales(config, where, out);
  out.attention_soft_cap = parse_cap(config, "attn_logit_softcapping", 50, where);
  out.logit_soft_cap = parse_cap(config, "final_logit_softcapping", 30, where);
  return out;
}

// Rope parameters of one kind of layer.
Json gemma3_rope(const Json& config, const std::string& where, const char* kind) {
  const Json all =
      json_has(config, "rope_parameters") ? config.at("rope_parameters") : Json::object();
  if (!all.is_object()) throw Error(ErrorKind::failed, "rope parameters must be an object", where);
  for (const auto& [key, value] : all.items()) {
    if (key != "full_attention" && key != "sliding_attention")
      throw Error(ErrorKind::unsupported,
                  "'rope_parameters' of Gemma 3 with '" + key + "', not by kind of layer", where);
  }
  if (!json_has(all, kind)) return {{"rope_type", "default"}};
  if (!all.at(kind).is_object())
    throw Error(ErrorKind::failed, "rope parameters must be an object", where);
  // transformers knows the old key only beside rope_scaling.
  if (all.at(kind).contains("type") && !all.at(kind).contains("rope_type"))
    throw Error(ErrorKind::failed, "'rope_type' is missing in the rope parameters", where);
  return all.at(kind);
}

// config.json as it would be with one rotary embedding: that of the layers without a window.
Json with_global_rope(const Json& config, const std::string& where) {
  Json full = gemma3_rope(config, where, "full_attention");
  if (json_has(config, "rope_scaling")) {
    if (!config.at("rope_scaling").is_object())
      throw Error(ErrorKind::failed, "rope parameters must be an object", where);
    full.update(config.at("rope_scaling"));
  }
  Json flat = config;
  flat.erase("rope_scaling");
  flat.erase("original_max_position_embeddings");  // looked for among the parameters only
  flat["rope_parameters"] = full;
  return flat;
}

std::vector<float> gemma3_local_frequencies(const Json& config, const std::string& where,
                                            const ModelConfig& c) {
  Json local = gemma3_rope(config, where, "sliding_attention");
  if (!local.contains("rope_theta"))
    local["rope_theta"] = config_number(config, "rope_local_base_freq", where, 1e4);
  const Rope rope = parse_rope({{"rope_parameters", local}}, where, c.head_dim, c.max_positions);
  if (rope.parameters.at("rope_type") != "default")
    throw Error(ErrorKind::unsupported, "scaled rope parameters of 'sliding_attention'", where);
  return rope.frequencies;
}

ModelConfig parse_gemma3(const Json& config, const std::string& where) {
  refuse_gemma_switches(config, where);
  ModelConfig out = parse_llama_family(with_global_rope(config, where), where,
                                       {.vocab = 262208,
                                        .hidden = 2304,
                                        .intermediate = 9216,
                                        .layers = 26,
                                        .heads = 8,
                                        .kv_heads = 4,
                                        .head_dim = 256,
                                        .positions = 131072,
                                        .bos = 2,
                                        .eos = 1,
                                        .null_kv_heads = false,
                                        .whole_heads = true,
                                        .tied = true,
                                        .rope = {.theta = 1e6},
                                        .activation_key = "hidden_activation",
                                        .activation = "gelu_pytorch_tanh"});
  out.rope.local_frequencies = gemma3_local_frequencies(config, where, out);
  const int64_t window = window_size(config, where, 4096);
  const std::vector<bool> slides = slides_by_pattern(config, where, 6, out.layers);
  for (size_t i = 0; i < out.window.size(); ++i) {
    if (slides[i] && window == 0)
      throw Error(ErrorKind::failed, "Gemma 3 needs a 'sliding_window'", where);
    out.window[i] = slides[i] ? window : 0;
    out.rope.layers.push_back(slides[i] ? LayerRope::local : LayerRope::whole);
  }
  parse_gemma_scales(config, where, out);
  out.attention_soft_cap = parse_cap(config, "attn_logit_softcapping", 0, where);
  out.logit_soft_cap = parse_cap(config, "final_logit_softcapping", 0, where);
  return out;
}

ModelSpec gemma2_spec(const ModelConfig& c, const TensorSource&) {
  ModelSpec spec = llama_family_spec(c, {});
  spec.final_norm.offset = 1;
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    std::vector<SublayerSpec>& sublayers = spec.blocks[i].sublayers;
    sublayers[0].before = {prefix + "input_layernorm", false, 1};
    sublayers[0].after = {prefix + "post_attention_layernorm", false, 1};
    sublayers[1].before = {prefix + "pre_feedforward_layernorm", false, 1};
    sublayers[1].after = {prefix + "post_feedforward_layernorm", false, 1};
  }
  return spec;
}

ModelSpec gemma3_spec(const ModelConfig& c, const TensorSource& source) {
  ModelSpec spec = gemma2_spec(c, source);
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".self_attn.";
    auto& attention = std::get<AttentionSpec>(spec.blocks[i].sublayers[0].mixer);
    attention.q_norm = {prefix + "q_norm", false, 1};
    attention.k_norm = {prefix + "k_norm", false, 1};
  }
  return spec;
}

}  // namespace

Architecture gemma2_architecture() {
  return {"gemma2", parse_gemma2, gemma2_spec};
}

Architecture gemma3_text_architecture() {
  return {"gemma3_text", parse_gemma3, gemma3_spec};
}

}  // namespace qwb
