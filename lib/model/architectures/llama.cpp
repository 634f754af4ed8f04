// Llama 2 and 3, SmolLM2 and others of model_type "llama".
#include "lib/model/architectures/llama_family.h"

#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"

namespace qwb {
namespace {

GgufSpec gguf_of_llama() {
  GgufSpec spec = llama_family_gguf("llama", "LlamaForCausalLM", GgufLayout::heads);
  spec.switches = {llama_attention_bias(), {"mlp_bias", "blk.0.ffn_gate.bias"}};
  return spec;
}

}  // namespace

Architecture llama_architecture() {
  return {"llama",
          [](const Json& config, const std::string& where) {
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
                                                  .eos = 2,
                                                  .whole_heads = true});
            refuse_slides_without_window(config, where, json_has(config, "sliding_window"));
            out.attention_bias = config_switch(config, "attention_bias", where, false);
            out.mlp_bias = config_switch(config, "mlp_bias", where, false);
            return out;
          },
          [](const ModelConfig& config, const TensorSource& source) {
            LlamaBiases biases;
            biases.qkv = config.attention_bias;
            // Without a tensor transformers has zeros there; some checkpoints have biases on q, k,
            // v alone.
            biases.output =
                config.attention_bias && has_bias(source, "model.layers.0.self_attn.o_proj");
            biases.mlp = config.mlp_bias;
            return llama_family_spec(config, biases);
          },
          gguf_of_llama()};
}

}  // namespace qwb
