// Mixtral: Mistral's attention, and experts instead of the MLP (transformers: MixtralConfig).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/llama_family.h"

namespace qwb {
namespace {

ModelConfig parse_mixtral(const Json& config, const std::string& where) {
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
                                        .null_kv_heads = false,
                                        .norm_eps = 1e-5,
                                        .rope = {.theta = 1e6}});
  const int64_t window = window_size(config, where);
  refuse_slides_without_window(config, where, window > 0);
  out.window.assign(out.window.size(), window);
  // transformers knows both names; this one wins.
  const bool renamed = config.is_object() && config.contains("num_experts");
  out.experts = config_size(config, renamed ? "num_experts" : "num_local_experts", where, 8);
  out.experts_used = config_size(config, "num_experts_per_tok", where, 2);
  if (out.experts > 65536)
    throw Error(ErrorKind::failed, "'num_local_experts' is absurdly large", where);
  if (out.experts_used > out.experts) {
    throw Error(ErrorKind::failed, "'num_experts_per_tok' is larger than 'num_local_experts'",
                where);
  }
  return out;
}

ModelSpec mixtral_spec(const ModelConfig& c, const TensorSource&) {
  ModelSpec spec = llama_family_spec(c, {});
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".block_sparse_moe.";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      return LinearSpec{prefix + name, out, in, Orientation::out_in, false};
    };
    MoeSpec moe;
    moe.router = linear("gate", c.experts, c.hidden);
    moe.used = c.experts_used;
    for (int64_t e = 0; e < c.experts; ++e) {
      const std::string expert = "experts." + std::to_string(e) + ".";
      moe.experts.push_back({{linear(expert + "w1", c.intermediate, c.hidden)},
                             linear(expert + "w3", c.intermediate, c.hidden),
                             linear(expert + "w2", c.hidden, c.intermediate)});
    }
    spec.blocks[i].sublayers[1].mixer = std::move(moe);
  }
  return spec;
}

}  // namespace

Architecture mixtral_architecture() {
  return {"mixtral", parse_mixtral, mixtral_spec};
}

}  // namespace qwb
