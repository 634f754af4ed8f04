// Llama 2 and 3, SmolLM2 and others of model_type "llama".
#include "lib/model/llama_family.h"

#include "lib/base/error.h"
#include "lib/model/config_fields.h"

namespace qwb {

bool has_bias(const TensorSource& source, const std::string& module) {
  return source.find(module + ".bias").has_value();
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

Architecture llama_architecture() {
  return {"llama",
          [](const Json& config, const std::string& where) {
            ModelConfig out = parse_llama_family(config, where,
                                                 {.vocab = 32000,
                                                  .hidden = 4096,
                                                  .intermediate = 11008,
                                                  .layers = 32,
                                                  .heads = 32,
                                                  .kv_heads = 0,
                                                  .head_dim = 0,
                                                  .positions = 2048,
                                                  .bos = 1,
                                                  .eos = 2,
                                                  .whole_heads = true});
            refuse_slides_without_window(config, where, json_has(config, "sliding_window"));
            out.attention_bias = config_switch(config, "attention_bias", where, false);
            out.mlp_bias = config_switch(config, "mlp_bias", where, false);
            return out;
          },
          [](const ModelConfig& config, const TensorSource& source) {
            LlamaBiases biases;
            biases.qkv = config.attention_bias;
            // Without a tensor transformers has zeros there; some checkpoints have biases on q, k,
            // v alone.
            biases.output =
                config.attention_bias && has_bias(source, "model.layers.0.self_attn.o_proj");
            biases.mlp = config.mlp_bias;
            return llama_family_spec(config, biases);
          }};
}

}  // namespace qwb
