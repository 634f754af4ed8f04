// Phi-3, 3.5 and 4: Llama's wiring with q, k and v in one module and gate and up in another, heads
// of which a part turns (Phi-4-mini), and longrope (transformers: Phi3Config).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

ModelConfig parse_phi3(const Json& config, const std::string& where) {
  const int64_t from = config_size(config, "original_max_position_embeddings", where, 4096);
  ModelConfig out = parse_llama_family(config, where,
                                       {.vocab = 32064,
                                        .hidden = 3072,
                                        .intermediate = 8192,
                                        .layers = 32,
                                        .heads = 32,
                                        .kv_heads = 0,
                                        .head_dim = 0,
                                        .positions = 4096,
                                        .bos = 1,
                                        .eos = 32000,
                                        .norm_eps = 1e-5,
                                        .rope = {.partial = 1, .longrope_from = from}});
  out.window.assign(out.window.size(), window_size(config, where));
  return out;
}

ModelSpec phi3_spec(const ModelConfig& c, const TensorSource&) {
  ModelSpec spec = llama_family_spec(c, {});
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    std::vector<SublayerSpec>& sublayers = spec.blocks[i].sublayers;
    const int64_t rows = (c.heads + 2 * c.kv_heads) * c.head_dim;
    std::get<AttentionSpec>(sublayers[0].mixer).qkv = {
        {prefix + "self_attn.qkv_proj", rows, c.hidden}};
    fuse_gate_and_up(prefix + "mlp.gate_up_proj", std::get<MlpSpec>(sublayers[1].mixer));
  }
  return spec;
}

}  // namespace

Architecture phi3_architecture() {
  return {"phi3", parse_phi3, phi3_spec};
}

}  // namespace qwb
