// StableLM: Llama's wiring with LayerNorms and heads of which a part turns (transformers:
// StableLmConfig). Its forms with parallel sublayers and norms on every head are refused.
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

ModelConfig parse_stablelm(const Json& config, const std::string& where) {
  for (const char* key : {"use_parallel_residual", "qk_layernorm"}) {
    if (config_switch(config, key, where, false))
      throw Error(ErrorKind::unsupported, std::string("'") + key + "' of StableLM", where);
  }
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 50304,
                                        .hidden = 2560,
                                        .intermediate = 6912,
                                        .layers = 32,
                                        .heads = 32,
                                        .kv_heads = 32,
                                        .head_dim = 0,
                                        .positions = 4096,
                                        .bos = 0,
                                        .eos = 0,
                                        .null_kv_heads = false,
                                        .whole_heads = true,
                                        .norm_eps = 1e-5,
                                        .rope = {.partial = 0.25},
                                        .norm_eps_key = "layer_norm_eps"});
  // Its attention does not look at it, its rotary embedding does.
  if (out.head_dim * out.heads != out.hidden)
    throw Error(ErrorKind::unsupported, "'head_dim' of StableLM", where);
  out.attention_bias = config_switch(config, "use_qkv_bias", where, false);
  return out;
}

ModelSpec stablelm_spec(const ModelConfig& c, const TensorSource&) {
  LlamaBiases biases;
  biases.qkv = c.attention_bias;
  ModelSpec spec = llama_family_spec(c, biases);
  centre_norms(spec);
  return spec;
}

}  // namespace

Architecture stablelm_architecture() {
  return {"stablelm", parse_stablelm, stablelm_spec};
}

}  // namespace qwb
