// StarCoder2: Llama's attention with biases, LayerNorms, a plain MLP (transformers:
// Starcoder2Config).
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

ModelConfig parse_starcoder2(const Json& config, const std::string& where) {
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 49152,
                                        .hidden = 3072,
                                        .intermediate = 12288,
                                        .layers = 30,
                                        .heads = 24,
                                        .kv_heads = 2,
                                        .head_dim = 0,
                                        .positions = 4096,
                                        .bos = 50256,
                                        .eos = 50256,
                                        .null_kv_heads = false,
                                        .tied = true,
                                        .norm_eps = 1e-5,
                                        .norm_eps_key = "norm_epsilon",
                                        .activation = "gelu_pytorch_tanh"});
  out.window.assign(out.window.size(), window_size(config, where));
  out.attention_bias = out.mlp_bias = config_switch(config, "use_bias", where, true);
  return out;
}

ModelSpec starcoder2_spec(const ModelConfig& c, const TensorSource&) {
  LlamaBiases biases;
  biases.qkv = biases.output = c.attention_bias;
  ModelSpec spec = llama_family_spec(c, biases);
  centre_norms(spec);
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".mlp.";
    MlpSpec mlp;
    mlp.up = {prefix + "c_fc", c.intermediate, c.hidden, Orientation::out_in, c.mlp_bias};
    mlp.down = {prefix + "c_proj", c.hidden, c.intermediate, Orientation::out_in, c.mlp_bias};
    spec.blocks[i].sublayers[1].mixer = std::move(mlp);
  }
  return spec;
}

}  // namespace

Architecture starcoder2_architecture() {
  return {"starcoder2", parse_starcoder2, starcoder2_spec};
}

}  // namespace qwb
