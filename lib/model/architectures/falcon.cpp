// Falcon: attention and MLP beside each other, behind one LayerNorm (7B, 11B) or two (40B, 180B),
// the q heads of a kv head, k and v side by side in one module (transformers: FalconConfig).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/plain_family.h"
#include "lib/model/rope.h"

namespace qwb {
namespace {

// Switches that may be null, which transformers takes for false.
bool falcon_switch(const Json& config, const char* key, const std::string& where, bool fallback) {
  const bool null = config.contains(key) && config.at(key).is_null();
  return !null && config_switch(config, key, where, fallback);
}

int64_t falcon_kv_heads(const Json& config, const std::string& where, int64_t heads) {
  const int64_t named = optional_size(config, "num_kv_heads", where, heads);
  if (falcon_switch(config, "new_decoder_architecture", where, false)) {
    if (heads % named != 0)
      throw Error(ErrorKind::failed, "'num_kv_heads' does not divide the heads", where);
    return named;
  }
  if (falcon_switch(config, "multi_query", where, true)) return 1;
  if (named != heads)
    throw Error(ErrorKind::unsupported, "'num_kv_heads' without 'new_decoder_architecture'", where);
  return heads;
}

ModelConfig parse_falcon(const Json& config, const std::string& where) {
  ModelConfig out = parse_plain_family(config, where, "falcon",
                                       {.vocab = {"vocab_size", nullptr, 65024},
                                        .hidden = {"hidden_size", "n_embed", 4544},
                                        .layers = {"num_hidden_layers", nullptr, 32},
                                        .heads = {"num_attention_heads", nullptr, 71},
                                        .positions = {"max_position_embeddings", nullptr, 2048},
                                        .bos = 11,
                                        .eos = 11});
  // Its ALiBi is rounded to bf16, position by position.
  if (falcon_switch(config, "alibi", where, false))
    throw Error(ErrorKind::unsupported, "'alibi' of Falcon (Falcon-RW)", where);
  out.kv_heads = falcon_kv_heads(config, where, out.heads);
  out.intermediate = optional_size(config, "ffn_hidden_size", where, 4 * out.hidden);
  out.activation = config_activation(config, "activation", where, "gelu");
  out.rope = parse_rope(config, where, out.head_dim, out.max_positions, RopeRules{});
  out.attention_bias = out.mlp_bias = falcon_switch(config, "bias", where, false);
  const bool modern = falcon_switch(config, "new_decoder_architecture", where, false);
  out.parallel_residual = falcon_switch(config, "parallel_attn", where, true);
  const int64_t norms = optional_size(config, "num_ln_in_parallel_attn", where, modern ? 2 : 1);
  if (norms > 2 || (modern && !out.parallel_residual) || (norms == 2 && !modern))
    throw Error(ErrorKind::unsupported, "these norms of Falcon's parallel attention", where,
                "known: one, or two with 'new_decoder_architecture'");
  out.parallel_norms = norms;
  return out;
}

ModelSpec falcon_spec(const ModelConfig& c, const TensorSource& source) {
  const std::string prefix = prefix_of(source, "transformer.", "ln_f.weight");
  ModelSpec spec;
  spec.embedding = prefix + "word_embeddings";
  spec.final_norm = {prefix + "ln_f", true};
  spec.output_embedding = c.tied_embeddings ? spec.embedding : "lm_head";
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = prefix + "h." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      return LinearSpec{layer + name, out, in, Orientation::out_in, c.attention_bias};
    };
    const auto norm = [&](const char* name) { return NormSpec{layer + name, true}; };
    AttentionSpec attention;
    attention.qkv = {linear("self_attention.query_key_value",
                            (c.heads + 2 * c.kv_heads) * c.head_dim, c.hidden)};
    attention.grouped = true;
    attention.output = linear("self_attention.dense", c.hidden, c.hidden);
    MlpSpec mlp;
    mlp.up = linear("mlp.dense_h_to_4h", c.intermediate, c.hidden);
    mlp.down = linear("mlp.dense_4h_to_h", c.hidden, c.intermediate);
    if (!c.parallel_residual) {
      spec.blocks.push_back({{{norm("input_layernorm"), std::move(attention)},
                              {norm("post_attention_layernorm"), std::move(mlp)}}});
      continue;
    }
    const bool two = c.parallel_norms == 2;
    ParallelSpec both{std::move(attention), two ? norm("ln_mlp") : NormSpec{}, std::move(mlp)};
    spec.blocks.push_back({{{norm(two ? "ln_attn" : "input_layernorm"), std::move(both)}}});
  }
  return spec;
}

}  // namespace

Architecture falcon_architecture() {
  return {"falcon", parse_falcon, falcon_spec};
}

}  // namespace qwb
