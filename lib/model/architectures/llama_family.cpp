#include "lib/model/architectures/llama_family.h"

#include <cmath>

#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/rope.h"

namespace qwb {
namespace {

int64_t key_value_heads(const Json& config, const std::string& where, const LlamaDefaults& defaults,
                        int64_t heads) {
  const std::string key = "num_key_value_heads";
  const int64_t fallback = defaults.kv_heads > 0 ? defaults.kv_heads : heads;
  const bool null = config.contains(key) && config.at(key).is_null() && defaults.null_kv_heads;
  const int64_t count = null ? heads : config_size(config, key, where, fallback);
  if (heads % count != 0)
    throw Error(ErrorKind::failed,
                "'num_key_value_heads' (" + std::to_string(count) +
                    ") does not divide 'num_attention_heads' (" + std::to_string(heads) + ")",
                where);
  return count;
}

int64_t head_dimension(const Json& config, const std::string& where, const LlamaDefaults& defaults,
                       const ModelConfig& c) {
  const bool given =
      json_has(config, "head_dim") || (defaults.head_dim > 0 && !config.contains("head_dim"));
  if ((!given || defaults.whole_heads) && c.hidden % c.heads != 0) {
    throw Error(ErrorKind::failed, "'num_attention_heads' does not divide 'hidden_size'", where,
                given ? "" : "there is no 'head_dim' either");
  }
  const int64_t fallback =
      defaults.head_dim > 0 ? defaults.head_dim : std::max<int64_t>(1, c.hidden / c.heads);
  const int64_t size = defaults.head_dim > 0 || json_has(config, "head_dim")
                           ? config_size(config, "head_dim", where, fallback)
                           : fallback;
  if (size % 2 != 0)
    throw Error(ErrorKind::unsupported, "an odd 'head_dim' cannot be rotated", where);
  // A table of that length is made below.
  if (size > 65536) throw Error(ErrorKind::failed, "'head_dim' is absurdly large", where);
  return size;
}

std::function<Json(const Json&)> same_as(const char* key) {
  return [key](const Json& config) { return config.at(key); };
}

std::vector<GgufSetting> llama_family_settings() {
  const auto head_dim = [](const Json& config) {
    return Json(config.at("hidden_size").get<int64_t>() /
                config.at("num_attention_heads").get<int64_t>());
  };
  return {
      {.key = "block_count", .config = "num_hidden_layers", .value = &ModelConfig::layers},
      {.key = "context_length",
       .config = "max_position_embeddings",
       .value = &ModelConfig::max_positions},
      {.key = "embedding_length", .config = "hidden_size", .value = &ModelConfig::hidden},
      {.key = "feed_forward_length",
       .config = "intermediate_size",
       .value = &ModelConfig::intermediate},
      {.key = "attention.head_count",
       .config = "num_attention_heads",
       .value = &ModelConfig::heads},
      {.key = "attention.head_count_kv",
       .config = "num_key_value_heads",
       .value = &ModelConfig::kv_heads,
       .absent = same_as("num_attention_heads")},
      {.key = "attention.layer_norm_rms_epsilon",
       .config = "rms_norm_eps",
       .value = &ModelConfig::norm_eps,
       .kind = GgufSetting::Kind::number},
      {.key = "attention.key_length",
       .config = "head_dim",
       .value = &ModelConfig::head_dim,
       .absent = head_dim},
      {.key = "attention.value_length",
       .value = &ModelConfig::head_dim,
       .absent = same_as("head_dim"),
       .refusal = "values of another length than keys"},
      {.key = "rope.dimension_count",
       .value = &ModelConfig::head_dim,
       .absent = same_as("head_dim"),
       .refusal = "a partial rotary embedding"},
      {.key = "vocab_size", .value = &ModelConfig::vocab},
      {.key = "expert_count",
       .absent = [](const Json&) { return Json(0); },
       .refusal = "a mixture of experts"},
      {.key = "attention.sliding_window"},  // llama.cpp applies it to none of them
  };
}

}  // namespace

ModelConfig parse_llama_family(const Json& config, const std::string& where,
                               const LlamaDefaults& defaults) {
  ModelConfig out;
  out.architecture = json_string(config, "model_type", where);
  out.vocab = config_size(config, "vocab_size", where, defaults.vocab);
  out.hidden = config_size(config, "hidden_size", where, defaults.hidden);
  out.intermediate = config_size(config, "intermediate_size", where, defaults.intermediate);
  out.layers = config_size(config, "num_hidden_layers", where, defaults.layers);
  out.heads = config_size(config, "num_attention_heads", where, defaults.heads);
  if (out.layers > 100000)
    throw Error(ErrorKind::failed, "'num_hidden_layers' is absurdly large", where);
  out.kv_heads = key_value_heads(config, where, defaults, out.heads);
  out.head_dim = head_dimension(config, where, defaults, out);
  out.max_positions = config_size(config, "max_position_embeddings", where, defaults.positions);
  out.norm_eps = config_number(config, defaults.norm_eps_key, where, defaults.norm_eps);
  out.activation = config_activation(config, defaults.activation_key, where, defaults.activation);
  out.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(out.head_dim)));
  out.rope = parse_rope(config, where, out.head_dim, out.max_positions, defaults.rope);
  out.window.assign(static_cast<size_t>(out.layers), 0);
  sliding_layers(config, where, out.layers);  // only Qwen uses it; all check it
  out.tied_embeddings = config_switch(config, "tie_word_embeddings", where, defaults.tied);
  parse_special_ids(config, where, defaults.bos, defaults.eos, out);
  return out;
}

void centre_norms(ModelSpec& spec) {
  spec.final_norm.centred = true;
  for (BlockSpec& block : spec.blocks) {
    for (SublayerSpec& sublayer : block.sublayers) sublayer.before.centred = true;
  }
}

void fuse_gate_and_up(const std::string& module, MlpSpec& mlp) {
  mlp.gate.clear();
  mlp.up.module = module;
  mlp.up.out *= 2;
  mlp.fused = true;
}

void parse_llama_biases(const Json& config, const std::string& where, ModelConfig& out) {
  out.attention_bias = config_switch(config, "attention_bias", where, false);
  out.mlp_bias = config_switch(config, "mlp_bias", where, false);
}

LlamaBiases llama_biases(const ModelConfig& config, const TensorSource& source) {
  LlamaBiases biases;
  biases.qkv = config.attention_bias;
  biases.output = config.attention_bias && source.find("model.layers.0.self_attn.o_proj.bias");
  biases.mlp = config.mlp_bias;
  return biases;
}

ModelSpec llama_family_spec(const ModelConfig& c, const LlamaBiases& biases) {
  ModelSpec spec;
  spec.embedding = "model.embed_tokens";
  spec.final_norm = {"model.norm"};
  spec.output_embedding = c.tied_embeddings ? spec.embedding : "lm_head";
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in, bool bias) {
      return LinearSpec{prefix + name, out, in, Orientation::out_in, bias};
    };
    AttentionSpec attention;
    attention.qkv = {linear("self_attn.q_proj", q, c.hidden, biases.qkv),
                     linear("self_attn.k_proj", kv, c.hidden, biases.qkv),
                     linear("self_attn.v_proj", kv, c.hidden, biases.qkv)};
    if (biases.qk_norms) {
      attention.q_norm = {prefix + "self_attn.q_norm"};
      attention.k_norm = {prefix + "self_attn.k_norm"};
    }
    attention.output = linear("self_attn.o_proj", c.hidden, q, biases.output);
    MlpSpec mlp;
    mlp.gate = {linear("mlp.gate_proj", c.intermediate, c.hidden, biases.mlp)};
    mlp.up = linear("mlp.up_proj", c.intermediate, c.hidden, biases.mlp);
    mlp.down = linear("mlp.down_proj", c.hidden, c.intermediate, biases.mlp);
    spec.blocks.push_back({{{{prefix + "input_layernorm"}, std::move(attention)},
                            {{prefix + "post_attention_layernorm"}, std::move(mlp)}}});
  }
  return spec;
}

GgufSwitch llama_attention_bias() {
  return {"attention_bias", "blk.0.attn_q.bias"};
}

GgufSpec llama_family_gguf(const std::string& name, const std::string& model_class,
                           GgufLayout q_and_k) {
  GgufSpec spec;
  spec.name = name;
  spec.top = {
      {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
  spec.layer = {{"attn_norm", "input_layernorm"},
                {"attn_q", "self_attn.q_proj", q_and_k},
                {"attn_k", "self_attn.k_proj", q_and_k},
                {"attn_v", "self_attn.v_proj"},
                {"attn_output", "self_attn.o_proj"},
                {"attn_q_norm", "self_attn.q_norm"},
                {"attn_k_norm", "self_attn.k_norm"},
                {"ffn_norm", "post_attention_layernorm"},
                {"ffn_gate", "mlp.gate_proj"},
                {"ffn_up", "mlp.up_proj"},
                {"ffn_down", "mlp.down_proj"}};
  spec.layer_prefix = "model.layers.";
  spec.settings = llama_family_settings();
  spec.config = {{"architectures", Json::array({model_class})},
                 {"model_type", nullptr},
                 {"vocab_size", nullptr},
                 {"hidden_size", nullptr},
                 {"intermediate_size", nullptr},
                 {"num_hidden_layers", nullptr},
                 {"num_attention_heads", nullptr},
                 {"num_key_value_heads", nullptr},
                 {"head_dim", nullptr},
                 {"hidden_act", "silu"},
                 {"max_position_embeddings", nullptr},
                 {"rms_norm_eps", nullptr}};
  spec.obstacle = [](const ModelConfig& c) -> std::string {
    return c.activation == Activation::silu ? "" : "this activation";
  };
  return spec;
}

}  // namespace qwb
