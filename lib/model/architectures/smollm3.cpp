// SmolLM3: Llama's wiring, and layers without any position (transformers: SmolLM3Config).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

// no_rope_layers: one number a layer, 0 where the layer has no rotary embedding; else every layer
// whose number divides by no_rope_layer_interval has none.
std::vector<LayerRope> parse_rope_layers(const Json& config, const std::string& where,
                                         int64_t layers) {
  std::vector<LayerRope> kinds;
  const auto add = [&](bool turns) { kinds.push_back(turns ? LayerRope::whole : LayerRope::none); };
  if (!json_has(config, "no_rope_layers")) {
    for (const bool turns : all_but_every(config, "no_rope_layer_interval", where, 4, layers))
      add(turns);
    return kinds;
  }
  const Json& given = config.at("no_rope_layers");
  if (!given.is_array() || std::ssize(given) < layers)
    throw Error(ErrorKind::failed, "'no_rope_layers' must name every layer", where);
  for (int64_t i = 0; i < layers; ++i) {
    const Json& one = given.at(static_cast<size_t>(i));
    if (!one.is_number_integer())
      throw Error(ErrorKind::failed, "'no_rope_layers' must hold integers", where);
    add(one != 0);
  }
  return kinds;
}

ModelConfig parse_smollm3(const Json& config, const std::string& where) {
  refuse_nested_rope(config, where);
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 128256,
                                        .hidden = 2048,
                                        .intermediate = 11008,
                                        .layers = 36,
                                        .heads = 16,
                                        .kv_heads = 4,
                                        .head_dim = 0,
                                        .positions = 32768,
                                        .bos = 128000,
                                        .eos = 128001,
                                        .tied = true,
                                        .rope = {.theta = 2e6}});
  out.rope.layers = parse_rope_layers(config, where, out.layers);
  parse_llama_biases(config, where, out);
  const bool used = config_switch(config, "use_sliding_window", where, false);
  const int64_t window = window_size(config, where);
  refuse_slides_without_window(config, where, window > 0);
  const auto slides = sliding_layers(config, where, out.layers);
  for (size_t i = 0; i < out.window.size(); ++i) {
    const bool here = slides ? (*slides)[i] : used && out.rope.layers[i] == LayerRope::none;
    // transformers' attentions differ about it.
    if (here && !used) {
      throw Error(ErrorKind::unsupported,
                  "'layer_types' names sliding layers, and 'use_sliding_window' is false", where);
    }
    if (here) out.window[i] = window;
  }
  return out;
}

ModelSpec smollm3_spec(const ModelConfig& c, const TensorSource& source) {
  return llama_family_spec(c, llama_biases(c, source));
}

}  // namespace

Architecture smollm3_architecture() {
  return {"smollm3", parse_smollm3, smollm3_spec};
}

}  // namespace qwb
