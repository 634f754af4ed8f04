// Families whose MLP is a router and experts named mlp.gate and mlp.experts.N: Qwen2-MoE (with an
// expert that sees every token behind a gate), Qwen3-MoE and OLMoE (transformers: Qwen2MoeConfig,
// Qwen3MoeConfig, OlmoeConfig).
#include <algorithm>

#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

struct MoeDefaults {
  int64_t experts, used;
  const char* width_key;  // of an expert
  int64_t width;
};

void parse_experts(const Json& config, const std::string& where, const MoeDefaults& defaults,
                   ModelConfig& out) {
  // transformers knows both names; the first one wins.
  const bool named = config.is_object() && config.contains("num_experts");
  out.experts =
      config_size(config, named ? "num_experts" : "num_local_experts", where, defaults.experts);
  out.experts_used = config_size(config, "num_experts_per_tok", where, defaults.used);
  out.expert_width = config_size(config, defaults.width_key, where, defaults.width);
  out.experts_normalized = config_switch(config, "norm_topk_prob", where, false);
  if (out.experts > 65536) throw Error(ErrorKind::failed, "'num_experts' is absurdly large", where);
  if (out.experts_used > out.experts)
    throw Error(ErrorKind::failed, "'num_experts_per_tok' is larger than 'num_experts'", where);
}

// Layers that have an MLP in the place of experts.
void parse_dense_layers(const Json& config, const std::string& where, ModelConfig& out) {
  const int64_t step = config_size(config, "decoder_sparse_step", where, 1);
  for (int64_t i = 0; i < out.layers; ++i) out.dense.push_back((i + 1) % step != 0);
  if (!json_has(config, "mlp_only_layers")) return;
  const Json& list = config.at("mlp_only_layers");
  if (!list.is_array()) throw Error(ErrorKind::failed, "'mlp_only_layers' must be a list", where);
  for (const Json& index : list) {
    if (!index.is_number_integer() || index < 0 || index >= out.layers)
      throw Error(ErrorKind::failed, "'mlp_only_layers' must hold numbers of layers", where);
    out.dense[index.get<size_t>()] = true;
  }
}

void refuse_windows(const Json& config, const std::string& where) {
  if (config_switch(config, "use_sliding_window", where, false))
    throw Error(ErrorKind::unsupported, "'use_sliding_window' of a mixture of experts", where);
  refuse_nested_rope(config, where);
  refuse_slides_without_window(config, where, false);
}

ModelConfig parse_qwen2_moe(const Json& config, const std::string& where) {
  refuse_windows(config, where);
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 151936,
                                        .hidden = 2048,
                                        .intermediate = 5632,
                                        .layers = 24,
                                        .heads = 16,
                                        .kv_heads = 16,
                                        .head_dim = 0,
                                        .positions = 32768,
                                        .bos = -1,
                                        .eos = -1});
  parse_experts(config, where, {60, 4, "moe_intermediate_size", 1408}, out);
  out.shared_width = config_size(config, "shared_expert_intermediate_size", where, 5632);
  parse_dense_layers(config, where, out);
  out.attention_bias = config_switch(config, "qkv_bias", where, true);
  return out;
}

ModelConfig parse_qwen3_moe(const Json& config, const std::string& where) {
  refuse_windows(config, where);
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 151936,
                                        .hidden = 2048,
                                        .intermediate = 6144,
                                        .layers = 24,
                                        .heads = 32,
                                        .kv_heads = 4,
                                        .head_dim = 0,
                                        .positions = 32768,
                                        .bos = -1,
                                        .eos = -1,
                                        .null_kv_heads = false});
  parse_experts(config, where, {128, 8, "moe_intermediate_size", 768}, out);
  parse_dense_layers(config, where, out);
  out.attention_bias = config_switch(config, "attention_bias", where, false);
  return out;
}

ModelConfig parse_olmoe(const Json& config, const std::string& where) {
  if (json_has(config, "clip_qkv"))
    throw Error(ErrorKind::unsupported, "'clip_qkv' of OLMoE", where);
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 50304,
                                        .hidden = 2048,
                                        .intermediate = 2048,
                                        .layers = 16,
                                        .heads = 16,
                                        .kv_heads = 0,
                                        .head_dim = 0,
                                        .positions = 4096,
                                        .bos = -1,
                                        .eos = 50279,
                                        .norm_eps = 1e-5});
  parse_experts(config, where, {64, 8, "intermediate_size", 2048}, out);
  out.attention_bias = config_switch(config, "attention_bias", where, false);
  return out;
}

MlpSpec expert_mlp(const std::string& prefix, const ModelConfig& c, int64_t width) {
  const auto linear = [&](const char* name, int64_t out, int64_t in) {
    return LinearSpec{prefix + name, out, in, Orientation::out_in, false};
  };
  return {{linear("gate_proj", width, c.hidden)},
          linear("up_proj", width, c.hidden),
          linear("down_proj", c.hidden, width)};
}

void put_experts(const ModelConfig& c, ModelSpec& spec) {
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    if (!c.dense.empty() && c.dense[i]) continue;
    const std::string prefix = "model.layers." + std::to_string(i) + ".mlp.";
    MoeSpec moe;
    moe.router = {prefix + "gate", c.experts, c.hidden, Orientation::out_in, false};
    moe.used = c.experts_used;
    moe.normalized = c.experts_normalized;
    for (int64_t e = 0; e < c.experts; ++e) {
      const std::string expert = prefix + "experts." + std::to_string(e) + ".";
      moe.experts.push_back(expert_mlp(expert, c, c.expert_width));
    }
    if (c.shared_width > 0) {
      moe.shared = expert_mlp(prefix + "shared_expert.", c, c.shared_width);
      moe.shared_gate = {prefix + "shared_expert_gate", 1, c.hidden, Orientation::out_in, false};
    }
    spec.blocks[i].sublayers[1].mixer = std::move(moe);
  }
}

ModelSpec qwen2_moe_spec(const ModelConfig& c, const TensorSource&) {
  LlamaBiases biases;
  biases.qkv = c.attention_bias;
  ModelSpec spec = llama_family_spec(c, biases);
  put_experts(c, spec);
  return spec;
}

ModelSpec qwen3_moe_spec(const ModelConfig& c, const TensorSource& source) {
  LlamaBiases biases = llama_biases(c, source);
  biases.qk_norms = true;
  ModelSpec spec = llama_family_spec(c, biases);
  put_experts(c, spec);
  return spec;
}

ModelSpec olmoe_spec(const ModelConfig& c, const TensorSource& source) {
  ModelSpec spec = qwen3_moe_spec(c, source);
  for (BlockSpec& block : spec.blocks)
    std::get<AttentionSpec>(block.sublayers[0].mixer).norms_span_heads = true;
  return spec;
}

}  // namespace

Architecture qwen2_moe_architecture() {
  return {"qwen2_moe", parse_qwen2_moe, qwen2_moe_spec};
}

Architecture qwen3_moe_architecture() {
  return {"qwen3_moe", parse_qwen3_moe, qwen3_moe_spec};
}

Architecture olmoe_architecture() {
  return {"olmoe", parse_olmoe, olmoe_spec};
}

}  // namespace qwb
