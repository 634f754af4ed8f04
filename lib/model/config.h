// What config.json says about a decoder-only transformer, in one form for all architectures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/exec/executor.h"

namespace qwb {

// Which rotary embedding a layer has.
enum class LayerRope { none, whole, local };

// Rotary position embedding: per-pair frequencies already scaled (default, linear, llama3, yarn,
// longrope) and the factor on cos and sin.
struct Rope {
  // One for each pair of a head that turns: head_dim / 2 of them, or fewer (a partial rotary
  // embedding); empty: the model has no rotary embedding.
  std::vector<float> frequencies = {};
  float attention_factor = 1.0f;
  RotaryPairs pairs = RotaryPairs::halves;
  // Of the layers that are `local` (Gemma 3's with a window): as many, without a factor.
  std::vector<float> local_frequencies = {};
  // Per layer; empty: all have the one above.
  std::vector<LayerRope> layers = {};
  // Positions from this one on would take other frequencies, for the whole text (longrope's long
  // factors): they are refused. 0: there are none.
  int64_t end = 0;
  // What they were made from: rope_type, rope_theta and what the type needs, as in transformers 5's
  // rope_parameters; null: no rotary embedding.
  Json parameters = {};
};

struct ModelConfig {
  std::string architecture = {};  // config.json's model_type
  int64_t vocab = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  int64_t position_offset = 0;  // the row of the learned positions that position 0 has (OPT: 2)
  double norm_eps = 0;
  Activation activation = Activation::silu;
  float attention_scale = 0;  // on q k^T, before a layer's own factor
  Rope rope = {};
  std::vector<float> alibi_slopes = {};  // of each head (AttentionShape); empty: no ALiBi
  float attention_soft_cap = 0;          // scores become cap tanh(score / cap); 0: none
  float logit_soft_cap = 0;              // the same for the logits
  float logit_scale = 1;                 // on the logits, before their cap
  float residual_scale = 1;              // on what each sublayer adds to the residual stream
  float embedding_scale = 1;  // the token embeddings are multiplied with it (Gemma: sqrt(hidden))
  int64_t experts = 0, experts_used = 0;  // of each layer; 0: none
  // Of the experts, and of the one that sees every token (0: none), where `intermediate` is not.
  int64_t expert_width = 0, shared_width = 0;
  bool experts_normalized = true;       // MoeSpec::normalized
  std::vector<bool> dense = {};         // per layer: an MLP in the place of experts; empty: none is
  std::vector<int64_t> window = {};     // per layer: keys a query sees, itself included; 0 = all
  std::vector<float> layer_scale = {};  // per layer: an extra factor on q k^T (GPT-2's
                                        // scale_attn_by_inverse_layer_idx); empty = 1
  bool tied_embeddings = false;
  bool attention_bias = false;  // Llama and Qwen3: biases on q, k, v and the output projection
  bool mlp_bias = false;        // Llama
  // Attention and MLP stand beside each other (GPT-NeoX, Falcon), behind so many norms (Falcon).
  bool parallel_residual = false;
  int64_t parallel_norms = 0;
  int64_t bos = -1;  // -1: none
  std::vector<int64_t> eos = {};
};

// Reads config.json as transformers 5 does: absent keys have their family's defaults, null is an
// error except where transformers takes it for a default (and checks every size: positive,
// consistent, at most 2^31). Throws unsupported naming an architecture or a setting that this build
// does not know, `failed` for a broken file.
ModelConfig parse_config(const Json& config, const std::string& where);

}  // namespace qwb
