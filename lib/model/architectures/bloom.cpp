// BLOOM: LayerNorms, one of them on the embeddings, biases, q, k and v of a head side by side in
// one module, a plain MLP, ALiBi (transformers: BloomConfig).
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/plain_family.h"

namespace qwb {
namespace {

ModelConfig parse_bloom(const Json& config, const std::string& where) {
  ModelConfig out = parse_plain_family(config, where, "bloom",
                                       {.vocab = {"vocab_size", nullptr, 250880},
                                        .hidden = {"hidden_size", "n_embed", 64},
                                        .layers = {"n_layer", "num_hidden_layers", 2},
                                        .heads = {"n_head", "num_attention_heads", 8},
                                        .positions = {"seq_length", nullptr, 2048},
                                        .bos = 1,
                                        .eos = 2});
  out.activation = Activation::gelu_tanh;
  out.alibi_slopes = alibi_slopes(out.heads);
  require_switch(config, "apply_residual_connection_post_layernorm", where, false, false);
  // transformers then sums the closing modules' slices, and leaves out their biases.
  if (config_size(config, "pretraining_tp", where, 1) > 1)
    require_switch(config, "slow_but_exact", where, false, false);
  return out;
}

ModelSpec bloom_spec(const ModelConfig& c, const TensorSource& source) {
  const std::string prefix = prefix_of(source, "transformer.", "ln_f.weight");
  ModelSpec spec;
  spec.embedding = prefix + "word_embeddings";
  spec.embedding_norm = {prefix + "word_embeddings_layernorm", true};
  spec.final_norm = {prefix + "ln_f", true};
  spec.output_embedding = c.tied_embeddings ? spec.embedding : "lm_head";
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = prefix + "h." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      return LinearSpec{layer + name, out, in, Orientation::out_in, true};
    };
    AttentionSpec attention;
    attention.qkv = {linear("self_attention.query_key_value", 3 * c.hidden, c.hidden)};
    attention.grouped = true;
    attention.output = linear("self_attention.dense", c.hidden, c.hidden);
    MlpSpec mlp;
    mlp.up = linear("mlp.dense_h_to_4h", c.intermediate, c.hidden);
    mlp.down = linear("mlp.dense_4h_to_h", c.hidden, c.intermediate);
    spec.blocks.push_back({{{{layer + "input_layernorm", true}, std::move(attention)},
                            {{layer + "post_attention_layernorm", true}, std::move(mlp)}}});
  }
  return spec;
}

}  // namespace

Architecture bloom_architecture() {
  return {"bloom", parse_bloom, bloom_spec};
}

}  // namespace qwb
