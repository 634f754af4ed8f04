// GLM-4 (0414): norms before and after each mixer, gate and up in one module, the first half of
// each head turned in neighbouring pairs (transformers: Glm4Config).
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

ModelConfig parse_glm4(const Json& config, const std::string& where) {
  ModelConfig out =
      parse_llama_family(config, where,
                         {.vocab = 151552,
                          .hidden = 4096,
                          .intermediate = 13696,
                          .layers = 40,
                          .heads = 32,
                          .kv_heads = 2,
                          .head_dim = 128,
                          .positions = 131072,
                          .bos = -1,
                          .eos = -1,
                          .null_kv_heads = false,
                          .norm_eps = 1.5625e-7,
                          .rope = {.partial = 0.5, .pairs = RotaryPairs::neighbours}});
  out.attention_bias = config_switch(config, "attention_bias", where, true);
  if (!json_has(config, "eos_token_id")) out.eos = {151329, 151336, 151338};
  return out;
}

ModelSpec glm4_spec(const ModelConfig& c, const TensorSource&) {
  LlamaBiases biases;
  biases.qkv = c.attention_bias;
  ModelSpec spec = llama_family_spec(c, biases);
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    std::vector<SublayerSpec>& sublayers = spec.blocks[i].sublayers;
    sublayers[0].after = {prefix + "post_self_attn_layernorm"};
    sublayers[1].after = {prefix + "post_mlp_layernorm"};
    fuse_gate_and_up(prefix + "mlp.gate_up_proj", std::get<MlpSpec>(sublayers[1].mixer));
  }
  return spec;
}

}  // namespace

Architecture glm4_architecture() {
  return {"glm4", parse_glm4, glm4_spec};
}

}  // namespace qwb
