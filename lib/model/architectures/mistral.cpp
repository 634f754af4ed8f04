// Mistral: Llama's wiring with a sliding window over all layers (4096 if the key is absent; null in
// v0.2 and later: none). With layer_types transformers' AutoConfig takes it for a ministral, in
// which only the layers so named slide.
#include <algorithm>

#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

// Llama's, told apart by the window.
GgufSpec gguf_of_mistral() {
  GgufSpec spec = llama_family_gguf("llama", "MistralForCausalLM", GgufLayout::heads);
  const auto window = [](const ModelConfig& c) {
    const int64_t widest = *std::max_element(c.window.begin(), c.window.end());
    return widest > 0 ? Json(widest) : Json();
  };
  // The key says only how wide: read back, it would hold for all layers.
  spec.obstacle = [other = spec.obstacle](const ModelConfig& c) -> std::string {
    const auto [least, most] = std::minmax_element(c.window.begin(), c.window.end());
    return *least == *most ? other(c) : "a window in some layers only";
  };
  spec.mark = {.key = "attention.sliding_window", .config = "sliding_window", .value = window};
  return spec;
}

}  // namespace

Architecture mistral_architecture() {
  return {
      "mistral",
      [](const Json& config, const std::string& where) {
        ModelConfig out = parse_llama_family(config, where,
                                             {.vocab = 32000,
                                              .hidden = 4096,
                                              .intermediate = 14336,
                                              .layers = 32,
                                              .heads = 32,
                                              .kv_heads = 8,
                                              .head_dim = 0,
                                              .positions = 131072,
                                              .bos = 1,
                                              .eos = 2,
                                              .null_kv_heads = false});
        if (config.contains("layer_types")) refuse_nested_rope(config, where);
        const int64_t window = window_size(config, where, 4096);
        refuse_slides_without_window(config, where, window > 0);
        const auto slides = sliding_layers(config, where, out.layers);
        for (size_t i = 0; i < out.window.size(); ++i)
          out.window[i] = !slides || (*slides)[i] ? window : 0;
        return out;
      },
      [](const ModelConfig& config, const TensorSource&) { return llama_family_spec(config, {}); },
      gguf_of_mistral()};
}

}  // namespace qwb
