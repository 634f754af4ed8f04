// MPT: LayerNorms without bias, no biases, q, k and v side by side in one module, a plain MLP,
// ALiBi with slopes of its own (transformers: MptConfig).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/plain_family.h"

namespace qwb {
namespace {

void parse_mpt_attention(const Json& given, const std::string& where, ModelConfig& out) {
  if (!given.is_object()) throw Error(ErrorKind::failed, "'attn_config' must be an object", where);
  if (given.value("attn_type", Json("multihead_attention")) != "multihead_attention")
    throw Error(ErrorKind::unsupported, "'attn_type' of MPT other than multihead_attention", where);
  require_switch(given, "alibi", where, true, true);
  require_switch(given, "prefix_lm", where, false, false);
  require_switch(given, "qk_ln", where, false, false);
  // Only what tokens of several texts in one row may see.
  config_switch(given, "attn_uses_sequence_id", where, false);
  if (json_has(given, "clip_qkv") && json_number(given, "clip_qkv", where) != 0)
    throw Error(ErrorKind::unsupported, "'clip_qkv' of MPT", where);
  if (json_has(given, "softmax_scale"))
    out.attention_scale = static_cast<float>(json_number(given, "softmax_scale", where));
  // StoryWriter: transformers' class takes 8 whatever it says.
  if (config_size(given, "alibi_bias_max", where, 8) != 8)
    throw Error(ErrorKind::unsupported, "'alibi_bias_max' of MPT other than 8", where,
                "transformers' class does not look at it");
  out.alibi_slopes = mpt_slopes(out.heads);
}

ModelConfig parse_mpt(const Json& config, const std::string& where) {
  ModelConfig out = parse_plain_family(config, where, "mpt",
                                       {.vocab = {"vocab_size", nullptr, 50368},
                                        .hidden = {"d_model", "hidden_size", 2048},
                                        .layers = {"n_layers", "num_hidden_layers", 24},
                                        .heads = {"n_heads", "num_attention_heads", 16},
                                        .positions = {"max_seq_len", nullptr, 2048},
                                        .bos = -1,
                                        .eos = -1});
  out.activation = Activation::gelu_erf;  // the class has no setting for it
  if (config_size(config, "expansion_ratio", where, 4) != 4)
    throw Error(ErrorKind::unsupported, "'expansion_ratio' of MPT other than 4", where,
                "transformers' class does not look at it");
  require_switch(config, "no_bias", where, true, true);
  if (const std::string kind = json_string(config, "norm_type", where, "low_precision_layernorm");
      kind != "low_precision_layernorm" && kind != "layernorm")
    throw Error(ErrorKind::unsupported, "'norm_type' " + kind + " of MPT", where,
                "known: layernorm, low_precision_layernorm");
  if (json_has(config, "logit_scale"))
    throw Error(ErrorKind::unsupported, "'logit_scale' of MPT", where);
  parse_mpt_attention(json_has(config, "attn_config") ? config.at("attn_config") : Json::object(),
                      where, out);
  return out;
}

ModelSpec mpt_spec(const ModelConfig& c, const TensorSource& source) {
  const std::string prefix = prefix_of(source, "transformer.", "norm_f.weight");
  ModelSpec spec;
  spec.embedding = prefix + "wte";
  spec.final_norm = {prefix + "norm_f", true, 0, false};
  spec.output_embedding = c.tied_embeddings ? spec.embedding : "lm_head";
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = prefix + "blocks." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      return LinearSpec{layer + name, out, in, Orientation::out_in, false};
    };
    AttentionSpec attention;
    attention.qkv = {linear("attn.Wqkv", 3 * c.hidden, c.hidden)};
    attention.output = linear("attn.out_proj", c.hidden, c.hidden);
    MlpSpec mlp;
    mlp.up = linear("ffn.up_proj", c.intermediate, c.hidden);
    mlp.down = linear("ffn.down_proj", c.hidden, c.intermediate);
    spec.blocks.push_back({{{{layer + "norm_1", true, 0, false}, std::move(attention)},
                            {{layer + "norm_2", true, 0, false}, std::move(mlp)}}});
  }
  return spec;
}

}  // namespace

Architecture mpt_architecture() {
  return {"mpt", parse_mpt, mpt_spec};
}

}  // namespace qwb
