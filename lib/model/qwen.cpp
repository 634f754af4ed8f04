// Qwen2 and 2.5: Llama's wiring with biases on q, k and v. Qwen3: no biases by default, RMSNorm on every head
// of q and k, head_dim 128.
#include "lib/model/config_fields.h"
#include "lib/model/llama_family.h"

namespace qwb {
namespace {

void parse_qwen_windows(const Json& config, const std::string& where, ModelConfig& out) {
  if (!json_bool(config, "use_sliding_window", where, false)) return;
  parse_windows(config, where, json_int(config, "max_window_layers", where, 28), out);
}

}  // namespace

Architecture qwen2_architecture() {
  return {"qwen2",
          [](const Json& config, const std::string& where) {
            ModelConfig out = parse_llama_family(config, where);
            parse_qwen_windows(config, where, out);
            return out;
          },
          [](const ModelConfig& config, const TensorSource&) {
            LlamaBiases biases;
            biases.qkv = true;
            return llama_family_spec(config, biases);
          }};
}

Architecture qwen3_architecture() {
  return {"qwen3",
          [](const Json& config, const std::string& where) {
            Json filled = config;
            if (filled.is_object() && !json_has(filled, "head_dim")) filled["head_dim"] = 128;
            ModelConfig out = parse_llama_family(filled, where);
            parse_qwen_windows(filled, where, out);
            return out;
          },
          [](const ModelConfig& config, const TensorSource& source) {
            LlamaBiases biases;
            biases.qk_norms = true;
            biases.qkv = config.attention_bias;
            biases.output = config.attention_bias && has_bias(source, "model.layers.0.self_attn.o_proj");
            return llama_family_spec(config, biases);
          }};
}

}  // namespace qwb
