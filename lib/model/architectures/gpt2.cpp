// GPT-2: LayerNorms with bias, learned positions, fused q|k|v, plain MLP; linear weights stored
// [in, out] (Conv1D), names with or without the prefix "transformer.".
#include <cmath>

#include "lib/base/error.h"
#include "lib/model/architecture.h"
#include "lib/model/architectures/config_fields.h"

namespace qwb {
namespace {

// transformers knows four of GPT-2's sizes by the names of other families too; these win.
int64_t gpt2_size(const Json& config, const char* key, const char* other, const std::string& where,
                  int64_t fallback) {
  const bool renamed = config.is_object() && config.contains(other);
  return config_size(config, renamed ? other : key, where, fallback);
}

ModelConfig parse(const Json& config, const std::string& where) {
  ModelConfig out;
  out.architecture = "gpt2";
  out.vocab = config_size(config, "vocab_size", where, 50257);
  out.hidden = gpt2_size(config, "n_embd", "hidden_size", where, 768);
  out.layers = gpt2_size(config, "n_layer", "num_hidden_layers", where, 12);
  out.heads = gpt2_size(config, "n_head", "num_attention_heads", where, 12);
  out.kv_heads = out.heads;
  if (out.layers > 100000) throw Error(ErrorKind::failed, "'n_layer' is absurdly large", where);
  if (out.hidden % out.heads != 0)
    throw Error(ErrorKind::failed, "'n_head' does not divide 'n_embd'", where);
  out.head_dim = out.hidden / out.heads;
  out.intermediate =
      json_has(config, "n_inner") ? config_size(config, "n_inner", where, 0) : 4 * out.hidden;
  out.max_positions = gpt2_size(config, "n_positions", "max_position_embeddings", where, 1024);
  out.norm_eps = config_number(config, "layer_norm_epsilon", where, 1e-5);
  out.activation = config_activation(config, "activation_function", where, "gelu_new");
  const bool scaled = config_switch(config, "scale_attn_weights", where, true);
  out.attention_scale =
      scaled ? static_cast<float>(1 / std::sqrt(static_cast<double>(out.head_dim))) : 1.0f;
  if (config_switch(config, "scale_attn_by_inverse_layer_idx", where, false)) {
    for (int64_t i = 0; i < out.layers; ++i)
      out.layer_scale.push_back(1.0f / static_cast<float>(i + 1));
  }
  // The same sums in another order, for half precision.
  config_switch(config, "reorder_and_upcast_attn", where, false);
  out.window.assign(static_cast<size_t>(out.layers), 0);
  out.tied_embeddings = config_switch(config, "tie_word_embeddings", where, true);
  parse_special_ids(config, where, 50256, 50256, out);
  return out;
}

ModelSpec spec(const ModelConfig& c, const TensorSource& source) {
  // By a tensor that is never quantized.
  const std::string prefix = source.find("transformer.ln_f.weight") ? "transformer." : "";
  ModelSpec spec;
  spec.embedding = prefix + "wte";
  spec.positions = prefix + "wpe";
  spec.final_norm = {prefix + "ln_f", true};
  spec.output_embedding = c.tied_embeddings ? spec.embedding : "lm_head";
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = prefix + "h." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      return LinearSpec{layer + name, out, in, Orientation::in_out, true};
    };
    AttentionSpec attention;
    attention.qkv = {linear("attn.c_attn", 3 * c.hidden, c.hidden)};
    attention.output = linear("attn.c_proj", c.hidden, c.hidden);
    MlpSpec mlp;
    mlp.up = linear("mlp.c_fc", c.intermediate, c.hidden);
    mlp.down = linear("mlp.c_proj", c.hidden, c.intermediate);
    spec.blocks.push_back({{{{layer + "ln_1", true}, std::move(attention)},
                            {{layer + "ln_2", true}, std::move(mlp)}}});
  }
  return spec;
}

std::string gpt2_obstacle(const ModelConfig& c) {
  if (c.activation != Activation::gelu_tanh) return "this activation";
  if (!c.layer_scale.empty()) return "scale_attn_by_inverse_layer_idx";
  const bool scaled =
      c.attention_scale == static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim)));
  return scaled ? "" : "attention without its scale";
}

GgufSpec gguf_of_gpt2() {
  GgufSpec spec;
  spec.name = "gpt2";
  spec.top = {{"token_embd", "transformer.wte"},
              {"position_embd", "transformer.wpe"},
              {"output_norm", "transformer.ln_f"},
              {"output", "lm_head"}};
  spec.layer = {{"attn_norm", "ln_1"},
                {"attn_qkv", "attn.c_attn", GgufLayout::transposed},
                {"attn_output", "attn.c_proj", GgufLayout::transposed},
                {"ffn_norm", "ln_2"},
                {"ffn_up", "mlp.c_fc", GgufLayout::transposed},
                {"ffn_down", "mlp.c_proj", GgufLayout::transposed}};
  spec.layer_prefix = "transformer.h.";
  spec.optional_prefix = "transformer.";
  spec.settings = {
      {.key = "block_count", .config = "n_layer", .value = &ModelConfig::layers},
      {.key = "context_length", .config = "n_positions", .value = &ModelConfig::max_positions},
      {.key = "context_length", .config = "n_ctx"},
      {.key = "embedding_length", .config = "n_embd", .value = &ModelConfig::hidden},
      {.key = "feed_forward_length", .config = "n_inner", .value = &ModelConfig::intermediate},
      {.key = "attention.head_count", .config = "n_head", .value = &ModelConfig::heads},
      {.key = "attention.layer_norm_epsilon",
       .config = "layer_norm_epsilon",
       .value = &ModelConfig::norm_eps,
       .kind = GgufSetting::Kind::number}};
  spec.config = {{"architectures", Json::array({"GPT2LMHeadModel"})},
                 {"model_type", nullptr},
                 {"vocab_size", nullptr},
                 {"n_embd", nullptr},
                 {"n_inner", nullptr},
                 {"n_layer", nullptr},
                 {"n_head", nullptr},
                 {"n_positions", nullptr},
                 {"n_ctx", nullptr},
                 {"layer_norm_epsilon", nullptr},
                 {"activation_function", "gelu_new"}};
  spec.rope = false;
  spec.tied_twice = true;
  spec.obstacle = gpt2_obstacle;
  return spec;
}

}  // namespace

Architecture gpt2_architecture() {
  return {"gpt2", parse, spec, gguf_of_gpt2()};
}

}  // namespace qwb
