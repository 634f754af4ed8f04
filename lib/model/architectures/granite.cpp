// Granite 3: Llama's wiring with four multipliers, of the embeddings, the attention scores, what
// each sublayer adds, and the logits (transformers: GraniteConfig).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

ModelConfig parse_granite(const Json& config, const std::string& where) {
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
                                        .eos = 2});
  out.attention_bias = config_switch(config, "attention_bias", where, false);
  out.mlp_bias = config_switch(config, "mlp_bias", where, false);
  const auto multiplier = [&](const char* key) { return config_number(config, key, where, 1); };
  out.embedding_scale = static_cast<float>(multiplier("embedding_multiplier"));
  out.attention_scale = static_cast<float>(multiplier("attention_multiplier"));
  out.residual_scale = static_cast<float>(multiplier("residual_multiplier"));
  const double divisor = multiplier("logits_scaling");
  if (divisor == 0) throw Error(ErrorKind::failed, "'logits_scaling' must not be 0", where);
  out.logit_scale = static_cast<float>(1 / divisor);
  return out;
}

ModelSpec granite_spec(const ModelConfig& c, const TensorSource& source) {
  LlamaBiases biases;
  biases.qkv = c.attention_bias;
  biases.output = c.attention_bias && has_bias(source, "model.layers.0.self_attn.o_proj");
  biases.mlp = c.mlp_bias;
  return llama_family_spec(c, biases);
}

}  // namespace

Architecture granite_architecture() {
  return {"granite", parse_granite, granite_spec};
}

}  // namespace qwb
