// Cohere's Command-R and Command-R7B (cohere2): attention and MLP beside each other behind one
// LayerNorm without bias, neighbouring pairs turn, logits times logit_scale. Of cohere2 three of
// four layers have a window, and only these a rotary embedding (transformers: CohereConfig,
// Cohere2Config).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

ModelConfig parse_cohere_family(const Json& config, const std::string& where, double theta) {
  if (json_bool(config, "use_qk_norm", where, false))
    throw Error(ErrorKind::unsupported, "'use_qk_norm' of Cohere", where);
  refuse_nested_rope(config, where);
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 256000,
                                        .hidden = 8192,
                                        .intermediate = 22528,
                                        .layers = 40,
                                        .heads = 64,
                                        .kv_heads = 0,
                                        .head_dim = 0,
                                        .positions = 8192,
                                        .bos = 5,
                                        .eos = 255001,
                                        .tied = true,
                                        .norm_eps = 1e-5,
                                        .rope = {.theta = theta, .pairs = RotaryPairs::neighbours},
                                        .norm_eps_key = "layer_norm_eps"});
  out.attention_bias = config_switch(config, "attention_bias", where, false);
  out.logit_scale = static_cast<float>(config_number(config, "logit_scale", where, 0.0625));
  return out;
}

ModelConfig parse_cohere2(const Json& config, const std::string& where) {
  ModelConfig out = parse_cohere_family(config, where, 1e4);
  const int64_t window = window_size(config, where, 4096);
  const std::vector<bool> slides = slides_by_pattern(config, where, 4, out.layers);
  for (size_t i = 0; i < out.window.size(); ++i) {
    if (slides[i] && window == 0)
      throw Error(ErrorKind::failed, "Cohere 2 needs a 'sliding_window'", where);
    out.window[i] = slides[i] ? window : 0;
    out.rope.layers.push_back(slides[i] ? LayerRope::whole : LayerRope::none);
  }
  return out;
}

ModelSpec cohere_spec(const ModelConfig& c, const TensorSource& source) {
  ModelSpec spec = llama_family_spec(c, llama_biases(c, source));
  spec.final_norm = {spec.final_norm.module, true, 0, false};
  for (BlockSpec& block : spec.blocks) {
    const std::string norm = block.sublayers[0].before.module;
    ParallelSpec parallel;
    parallel.attention = std::get<AttentionSpec>(block.sublayers[0].mixer);
    parallel.mlp = std::get<MlpSpec>(block.sublayers[1].mixer);
    block.sublayers = {{{norm, true, 0, false}, std::move(parallel)}};
  }
  return spec;
}

}  // namespace

Architecture cohere_architecture() {
  return {"cohere",
          [](const Json& config, const std::string& where) {
            return parse_cohere_family(config, where, 5e5);
          },
          cohere_spec};
}

Architecture cohere2_architecture() {
  return {"cohere2", parse_cohere2, cohere_spec};
}

}  // namespace qwb
