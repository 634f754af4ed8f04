// Gemma 2: norms before and after each mixer, their gains 1 + weight, embeddings times
// sqrt(hidden), every second layer with a sliding window, soft caps on attention scores and logits
// (transformers: Gemma2Config).
#include <cmath>

#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

float parse_cap(const Json& config, const char* key, double fallback, const std::string& where) {
  if (config.contains(key) && config.at(key).is_null()) return 0;
  const double cap = json_number(config, key, where, fallback);
  if (!(cap > 0))
    throw Error(ErrorKind::failed, std::string("'") + key + "' must be positive", where);
  return static_cast<float>(cap);
}

ModelConfig parse_gemma2(const Json& config, const std::string& where) {
  if (config_switch(config, "attention_bias", where, false))
    throw Error(ErrorKind::unsupported, "'attention_bias' of Gemma 2 is not supported", where);
  if (json_bool(config, "use_bidirectional_attention", where, false))
    throw Error(ErrorKind::unsupported, "'use_bidirectional_attention' is not supported", where);
  refuse_nested_rope(config, where);
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 256000,
                                        .hidden = 2304,
                                        .intermediate = 9216,
                                        .layers = 26,
                                        .heads = 8,
                                        .kv_heads = 4,
                                        .head_dim = 256,
                                        .positions = 8192,
                                        .bos = 2,
                                        .eos = 1,
                                        .null_kv_heads = false,
                                        .whole_heads = true,
                                        .tied = true,
                                        .activation_key = "hidden_activation",
                                        .activation = "gelu_pytorch_tanh"});
  const int64_t window = window_size(config, where, 4096);
  if (window == 0) throw Error(ErrorKind::failed, "Gemma 2 needs a 'sliding_window'", where);
  const auto slides = sliding_layers(config, where, out.layers);
  for (size_t i = 0; i < out.window.size(); ++i) {
    if (slides ? (*slides)[i] : i % 2 == 0) out.window[i] = window;
  }
  const double scalar = config_number(config, "query_pre_attn_scalar", where, 256);
  if (!(scalar > 0))
    throw Error(ErrorKind::failed, "'query_pre_attn_scalar' must be positive", where);
  out.attention_scale = static_cast<float>(std::pow(scalar, -0.5));
  out.attention_soft_cap = parse_cap(config, "attn_logit_softcapping", 50, where);
  out.logit_soft_cap = parse_cap(config, "final_logit_softcapping", 30, where);
  out.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(out.hidden)));
  return out;
}

ModelSpec gemma2_spec(const ModelConfig& c, const TensorSource&) {
  ModelSpec spec = llama_family_spec(c, {});
  spec.final_norm.offset = 1;
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    std::vector<SublayerSpec>& sublayers = spec.blocks[i].sublayers;
    sublayers[0].before = {prefix + "input_layernorm", false, 1};
    sublayers[0].after = {prefix + "post_attention_layernorm", false, 1};
    sublayers[1].before = {prefix + "pre_feedforward_layernorm", false, 1};
    sublayers[1].after = {prefix + "post_feedforward_layernorm", false, 1};
  }
  return spec;
}

}  // namespace

Architecture gemma2_architecture() {
  return {"gemma2", parse_gemma2, gemma2_spec};
}

}  // namespace qwb
