// GPT-2: LayerNorms with bias, learned positions, fused q|k|v, plain MLP; linear weights stored [in, out]
// (Conv1D), names with or without the prefix "transformer.".
#include <cmath>

#include "lib/base/error.h"
#include "lib/model/architecture.h"
#include "lib/model/config_fields.h"

namespace qwb {
namespace {

ModelConfig parse(const Json& config, const std::string& where) {
  ModelConfig out;
  out.architecture = "gpt2";
  out.vocab = config_size(config, "vocab_size", where);
  out.hidden = config_size(config, "n_embd", where);
  out.layers = config_size(config, "n_layer", where);
  out.heads = config_size(config, "n_head", where);
  out.kv_heads = out.heads;
  if (out.layers > 100000) throw Error(ErrorKind::failed, "'n_layer' is absurdly large", where);
  if (out.hidden % out.heads != 0) throw Error(ErrorKind::failed, "'n_head' does not divide 'n_embd'", where);
  out.head_dim = out.hidden / out.heads;
  out.intermediate = config_size(config, "n_inner", where, 4 * out.hidden);
  out.max_positions = config_size(config, "n_positions", where);
  out.norm_eps = json_number(config, "layer_norm_epsilon", where, 1e-5);
  out.activation = parse_activation(json_string(config, "activation_function", where, "gelu_new"), where);
  const bool scaled = json_bool(config, "scale_attn_weights", where, true);
  out.attention_scale = scaled ? static_cast<float>(1 / std::sqrt(static_cast<double>(out.head_dim))) : 1.0f;
  if (json_bool(config, "scale_attn_by_inverse_layer_idx", where, false)) {
    for (int64_t i = 0; i < out.layers; ++i) out.layer_scale.push_back(1.0f / static_cast<float>(i + 1));
  }
  out.window.assign(static_cast<size_t>(out.layers), 0);
  out.tied_embeddings = json_bool(config, "tie_word_embeddings", where, true);
  parse_special_ids(config, where, out);
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
    spec.blocks.push_back(
        {{{{layer + "ln_1", true}, std::move(attention)}, {{layer + "ln_2", true}, std::move(mlp)}}});
  }
  return spec;
}

}  // namespace

Architecture gpt2_architecture() {
  return {"gpt2", parse, spec};
}

}  // namespace qwb
