// Qwen2 and 2.5: Llama's wiring with biases on q, k and v. Qwen3: no biases by default, RMSNorm on
// every head of q and k, head_dim 128.
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

// Layers slide only with use_sliding_window, by layer_types or from max_window_layers on.
void parse_qwen_windows(const Json& config, const std::string& where, ModelConfig& out) {
  const bool used = config_switch(config, "use_sliding_window", where, false);
  const int64_t window = used ? window_size(config, where, 4096) : 0;
  refuse_slides_without_window(config, where, window > 0);
  const auto slides = sliding_layers(config, where, out.layers);
  const bool absent = !config.is_object() || !config.contains("max_window_layers");
  const int64_t from = window == 0 ? 0 : absent ? 28 : json_int(config, "max_window_layers", where);
  for (size_t i = 0; i < out.window.size(); ++i) {
    const bool here = slides ? (*slides)[i] : window > 0 && static_cast<int64_t>(i) >= from;
    if (here) out.window[i] = window;
  }
}

constexpr LlamaDefaults kQwenDefaults = {.vocab = 151936,
                                         .hidden = 4096,
                                         .intermediate = 22016,
                                         .layers = 32,
                                         .heads = 32,
                                         .kv_heads = 32,
                                         .head_dim = 0,
                                         .positions = 32768,
                                         .bos = -1,
                                         .eos = -1};

ModelConfig parse_qwen(const Json& config, const std::string& where,
                       const LlamaDefaults& defaults) {
  refuse_nested_rope(config, where);
  ModelConfig out = parse_llama_family(config, where, defaults);
  parse_qwen_windows(config, where, out);
  return out;
}

GgufSpec gguf_of_qwen3() {
  GgufSpec spec = llama_family_gguf("qwen3", "Qwen3ForCausalLM");
  spec.switches = {llama_attention_bias()};
  return spec;
}

}  // namespace

Architecture qwen2_architecture() {
  return {"qwen2",
          [](const Json& config, const std::string& where) {
            return parse_qwen(config, where, kQwenDefaults);
          },
          [](const ModelConfig& config, const TensorSource&) {
            LlamaBiases biases;
            biases.qkv = true;
            return llama_family_spec(config, biases);
          },
          llama_family_gguf("qwen2", "Qwen2ForCausalLM")};
}

Architecture qwen3_architecture() {
  return {"qwen3",
          [](const Json& config, const std::string& where) {
            LlamaDefaults defaults = kQwenDefaults;
            defaults.head_dim = 128;
            ModelConfig out = parse_qwen(config, where, defaults);
            out.attention_bias = config_switch(config, "attention_bias", where, false);
            return out;
          },
          [](const ModelConfig& config, const TensorSource& source) {
            LlamaBiases biases = llama_biases(config, source);
            biases.qk_norms = true;
            return llama_family_spec(config, biases);
          },
          gguf_of_qwen3()};
}

}  // namespace qwb
