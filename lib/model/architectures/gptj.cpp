// GPT-J: attention and MLP beside each other behind one LayerNorm, the first rotary_dim values of
// each head turned in neighbouring pairs, a bias on the logits (transformers: GPTJConfig).
#include "lib/base/error.h"
#include "lib/model/architectures/config_fields.h"
#include "lib/model/architectures/plain_family.h"
#include "lib/model/rope.h"

namespace qwb {
namespace {

ModelConfig parse_gptj(const Json& config, const std::string& where) {
  ModelConfig out =
      parse_plain_family(config, where, "gptj",
                         {.vocab = {"vocab_size", nullptr, 50400},
                          .hidden = {"n_embd", "hidden_size", 4096},
                          .layers = {"n_layer", "num_hidden_layers", 28},
                          .heads = {"n_head", "num_attention_heads", 16},
                          .positions = {"n_positions", "max_position_embeddings", 2048},
                          .bos = 50256,
                          .eos = 50256,
                          .tied = false});
  out.intermediate = optional_size(config, "n_inner", where, 4 * out.hidden);
  out.activation = config_activation(config, "activation_function", where, "gelu_new");
  const int64_t turned = config_size(config, "rotary_dim", where, 64);
  if (turned > out.head_dim || turned % 2 != 0)
    throw Error(ErrorKind::failed, "'rotary_dim' must be even and at most the size of a head",
                where);
  // No other key of the family decides about the frequencies.
  const Json plain = {{"rope_theta", 1e4}};
  out.rope = parse_rope(plain, where, turned, out.max_positions,
                        RopeRules{.pairs = RotaryPairs::neighbours});
  return out;
}

ModelSpec gptj_spec(const ModelConfig& c, const TensorSource& source) {
  const std::string prefix = prefix_of(source, "transformer.", "ln_f.weight");
  ModelSpec spec;
  spec.embedding = prefix + "wte";
  spec.final_norm = {prefix + "ln_f", true};
  spec.output_embedding = c.tied_embeddings ? spec.embedding : "lm_head";
  spec.output_bias = "lm_head.bias";
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = prefix + "h." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, int64_t out, int64_t in, bool bias) {
      return LinearSpec{layer + name, out, in, Orientation::out_in, bias};
    };
    ParallelSpec both;
    for (const char* name : {"attn.q_proj", "attn.k_proj", "attn.v_proj"})
      both.attention.qkv.push_back(linear(name, c.hidden, c.hidden, false));
    both.attention.output = linear("attn.out_proj", c.hidden, c.hidden, false);
    both.mlp.up = linear("mlp.fc_in", c.intermediate, c.hidden, true);
    both.mlp.down = linear("mlp.fc_out", c.hidden, c.intermediate, true);
    spec.blocks.push_back({{{{layer + "ln_1", true}, std::move(both)}}});
  }
  return spec;
}

}  // namespace

Architecture gptj_architecture() {
  return {"gptj", parse_gptj, gptj_spec};
}

}  // namespace qwb
