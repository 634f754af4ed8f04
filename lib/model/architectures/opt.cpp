// OPT: LayerNorms, biases, a plain MLP with ReLU, learned positions whose first two rows no text
// uses (transformers: OPTConfig).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/plain_family.h"

namespace qwb {
namespace {

ModelConfig parse_opt(const Json& config, const std::string& where) {
  ModelConfig out = parse_plain_family(config, where, "opt",
                                       {.vocab = {"vocab_size", nullptr, 50272},
                                        .hidden = {"hidden_size", nullptr, 768},
                                        .layers = {"num_hidden_layers", nullptr, 12},
                                        .heads = {"num_attention_heads", nullptr, 12},
                                        .positions = {"max_position_embeddings", nullptr, 2048},
                                        .bos = 2,
                                        .eos = 2});
  out.norm_eps = 1e-5;  // the class has no setting for it
  out.intermediate = config_size(config, "ffn_dim", where, 3072);
  out.activation = config_activation(config, "activation_function", where, "relu");
  out.position_offset = 2;
  // OPT-350M: norms of the sums, and embeddings of another width.
  require_switch(config, "do_layer_norm_before", where, true, true);
  require_switch(config, "_remove_final_layer_norm", where, false, false);
  require_switch(config, "layer_norm_elementwise_affine", where, true, true);
  if (optional_size(config, "word_embed_proj_dim", where, out.hidden) != out.hidden)
    throw Error(ErrorKind::unsupported, "'word_embed_proj_dim' differs from 'hidden_size'", where);
  out.attention_bias = out.mlp_bias = config_switch(config, "enable_bias", where, true);
  return out;
}

ModelSpec opt_spec(const ModelConfig& c, const TensorSource& source) {
  const std::string prefix =
      prefix_of(source, "model.", "decoder.final_layer_norm.weight") + "decoder.";
  ModelSpec spec;
  spec.embedding = prefix + "embed_tokens";
  spec.positions = prefix + "embed_positions";
  spec.final_norm = {prefix + "final_layer_norm", true};
  spec.output_embedding = c.tied_embeddings ? spec.embedding : "lm_head";
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = prefix + "layers." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      return LinearSpec{layer + name, out, in, Orientation::out_in, c.attention_bias};
    };
    AttentionSpec attention;
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"})
      attention.qkv.push_back(linear(name, c.hidden, c.hidden));
    attention.output = linear("self_attn.out_proj", c.hidden, c.hidden);
    MlpSpec mlp;
    mlp.up = linear("fc1", c.intermediate, c.hidden);
    mlp.down = linear("fc2", c.hidden, c.intermediate);
    spec.blocks.push_back({{{{layer + "self_attn_layer_norm", true}, std::move(attention)},
                            {{layer + "final_layer_norm", true}, std::move(mlp)}}});
  }
  return spec;
}

}  // namespace

Architecture opt_architecture() {
  return {"opt", parse_opt, opt_spec};
}

}  // namespace qwb
