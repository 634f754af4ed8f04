// OLMo 2: norms only behind the mixers, and RMSNorm over all heads of q and of k at once, before
// the rotation (transformers: Olmo2Config).
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

ModelConfig parse_olmo2(const Json& config, const std::string& where) {
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 50304,
                                        .hidden = 4096,
                                        .intermediate = 11008,
                                        .layers = 32,
                                        .heads = 32,
                                        .kv_heads = 0,
                                        .head_dim = 0,
                                        .positions = 2048,
                                        .bos = -1,
                                        .eos = 50279,
                                        .norm_eps = 1e-5});
  out.attention_bias = config_switch(config, "attention_bias", where, false);
  return out;
}

ModelSpec olmo2_spec(const ModelConfig& c, const TensorSource& source) {
  LlamaBiases biases = llama_biases(c, source);
  biases.qk_norms = true;
  ModelSpec spec = llama_family_spec(c, biases);
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    std::vector<SublayerSpec>& sublayers = spec.blocks[i].sublayers;
    std::get<AttentionSpec>(sublayers[0].mixer).norms_span_heads = true;
    sublayers[0].before = sublayers[1].before = {};
    sublayers[0].after = {prefix + "post_attention_layernorm"};
    sublayers[1].after = {prefix + "post_feedforward_layernorm"};
  }
  return spec;
}

}  // namespace

Architecture olmo2_architecture() {
  return {"olmo2", parse_olmo2, olmo2_spec};
}

}  // namespace qwb
