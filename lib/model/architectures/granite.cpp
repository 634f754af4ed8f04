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
  parse_llama_biases(config, where, out);
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
  return llama_family_spec(c, llama_biases(c, source));
}

}  // namespace

Architecture granite_architecture() {
  return {"granite", parse_granite, granite_spec};
}

}  // namespace qwb
