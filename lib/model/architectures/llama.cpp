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
            parse_llama_biases(config, where, out);
            return out;
          },
          [](const ModelConfig& config, const TensorSource& source) {
            return llama_family_spec(config, llama_biases(config, source));
          },
          gguf_of_llama()};
}

}  // namespace qwb
