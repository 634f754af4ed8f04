// GPT-NeoX, and so Pythia: attention and MLP beside each other, each behind a LayerNorm of its own,
// q, k and v of a head side by side in one module, a quarter of each head turned (transformers:
// GPTNeoXConfig).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/plain_family.h"
#include "lib/model/rope.h"

namespace qwb {
namespace {

// The keys of older files under the names that others have. transformers does not look at these
// names beside rope_parameters; files that have both mean the same.
Json neox_rope_keys(const Json& config, const std::string& where) {
  Json renamed = config;
  const auto rename = [&](const char* old_key, const char* key, double fallback) {
    const Json known = config.contains(old_key) ? config[old_key] : Json(fallback);
    if (json_has(config, key) && config[key] != known)
      throw Error(ErrorKind::unsupported,
                  std::string("'") + key + "' of GPT-NeoX that differs from '" + old_key + "'",
                  where, "transformers' class takes the latter");
    renamed[key] = known;
  };
  rename("rotary_emb_base", "rope_theta", 1e4);
  rename("rotary_pct", "partial_rotary_factor", 0.25);
  return renamed;
}

ModelConfig parse_gpt_neox(const Json& config, const std::string& where) {
  ModelConfig out = parse_plain_family(config, where, "gpt_neox",
                                       {.vocab = {"vocab_size", nullptr, 50432},
                                        .hidden = {"hidden_size", nullptr, 6144},
                                        .layers = {"num_hidden_layers", nullptr, 44},
                                        .heads = {"num_attention_heads", nullptr, 64},
                                        .positions = {"max_position_embeddings", nullptr, 2048},
                                        .bos = 0,
                                        .eos = 2,
                                        .norm_eps_key = "layer_norm_eps",
                                        .tied = false});
  out.intermediate = config_size(config, "intermediate_size", where, 24576);
  out.activation = config_activation(config, "hidden_act", where, "gelu");
  out.rope = parse_rope(neox_rope_keys(config, where), where, out.head_dim, out.max_positions,
                        RopeRules{.partial = 0.25});
  out.attention_bias = config_switch(config, "attention_bias", where, true);
  out.parallel_residual = config_switch(config, "use_parallel_residual", where, true);
  return out;
}

ModelSpec gpt_neox_spec(const ModelConfig& c, const TensorSource& source) {
  const std::string prefix = prefix_of(source, "gpt_neox.", "final_layer_norm.weight");
  ModelSpec spec;
  spec.embedding = prefix + "embed_in";
  spec.final_norm = {prefix + "final_layer_norm", true};
  spec.output_embedding = c.tied_embeddings ? spec.embedding : "embed_out";
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = prefix + "layers." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in, bool bias) {
      return LinearSpec{layer + name, out, in, Orientation::out_in, bias};
    };
    AttentionSpec attention;
    attention.qkv = {linear("attention.query_key_value", 3 * c.hidden, c.hidden, c.attention_bias)};
    attention.grouped = true;
    attention.output = linear("attention.dense", c.hidden, c.hidden, c.attention_bias);
    MlpSpec mlp;
    mlp.up = linear("mlp.dense_h_to_4h", c.intermediate, c.hidden, true);
    mlp.down = linear("mlp.dense_4h_to_h", c.hidden, c.intermediate, true);
    const NormSpec first = {layer + "input_layernorm", true};
    const NormSpec second = {layer + "post_attention_layernorm", true};
    if (c.parallel_residual) {
      spec.blocks.push_back(
          {{{first, ParallelSpec{std::move(attention), second, std::move(mlp)}}}});
    } else {
      spec.blocks.push_back({{{first, std::move(attention)}, {second, std::move(mlp)}}});
    }
  }
  return spec;
}

}  // namespace

Architecture gpt_neox_architecture() {
  return {"gpt_neox", parse_gpt_neox, gpt_neox_spec};
}

}  // namespace qwb
