// The wiring that Llama, Mistral and Qwen share: RMSNorm, q/k/v, rotation, grouped attention, o;
// RMSNorm, gate and up, down.
#pragma once

#include <string>

#include "lib/model/architecture.h"
#include "lib/model/rope.h"

namespace qwb {

// What a family takes absent keys for, after transformers' configuration class. 0: `kv_heads` as
// `heads`, `head_dim` as hidden / heads.
struct LlamaDefaults {
  int64_t vocab, hidden, intermediate, layers, heads, kv_heads, head_dim, positions;
  int64_t bos, eos;           // -1: none
  bool null_kv_heads = true;  // null means `heads`; else it is an error
  bool whole_heads = false;   // hidden must be a multiple of heads even where head_dim is given
  bool tied = false;
  double norm_eps = 1e-6;
  RopeRules rope = {};
  const char* norm_eps_key = "rms_norm_eps";
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
};

// Everything of the Llama family but architecture-specific fields: sizes, rope, tied embeddings,
// activation, eps.
ModelConfig parse_llama_family(const Json& config, const std::string& where,
                               const LlamaDefaults& defaults);

struct LlamaBiases {
  bool qkv = false;
  bool output = false;
  bool mlp = false;
  bool qk_norms = false;  // Qwen3: RMSNorm over each head of q and k
};

// attention_bias and mlp_bias into the config; absent: none.
void parse_llama_biases(const Json& config, const std::string& where, ModelConfig& out);
// Those of the config. Where the checkpoint has no tensor for o's, transformers has zeros there;
// some have biases on q, k, v alone.
LlamaBiases llama_biases(const ModelConfig& config, const TensorSource& source);

ModelSpec llama_family_spec(const ModelConfig& config, const LlamaBiases& biases);
// LayerNorms with bias in place of all its norms.
void centre_norms(ModelSpec& spec);
// Gate and up become one module of this name, gate first.
void fuse_gate_and_up(const std::string& module, MlpSpec& mlp);

// How GGUF holds it under this name, `model_class` being transformers' class. q and k lie in this
// layout.
GgufSpec llama_family_gguf(const std::string& name, const std::string& model_class,
                           GgufLayout q_and_k = GgufLayout::plain);
// "attention_bias", where the family has that switch.
GgufSwitch llama_attention_bias();

}  // namespace qwb
