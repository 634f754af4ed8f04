// An architecture: what its config.json means, what its tensors are called, and how one block is wired. One
// file each and one line in architectures.cpp. The wiring is a BlockSpec: the executor in block.cpp runs
// norm, q/k/v (separate or fused), rotation, attention, output projection, norm, gated or plain MLP, with
// every optional part that is present.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/model/config.h"
#include "lib/tensor/source.h"

namespace qwb {

// A linear layer of a block.
struct LinearSpec {
  std::string module;  // checkpoint name without ".weight"
  int64_t out = 0;
  int64_t in = 0;
  Orientation orientation = Orientation::out_in;
  bool bias = false;  // "<module>.bias" [out]
};

struct NormSpec {
  std::string module;    // "<module>.weight" [n], and "<module>.bias" [n] if centred
  bool centred = false;  // LayerNorm with bias instead of RMSNorm
};

struct BlockSpec {
  NormSpec attention_norm;
  std::vector<LinearSpec> qkv;  // q, k, v; or one module whose output holds q, k and v side by side
  std::string q_norm, k_norm;   // RMSNorm over head_dim before the rotation; empty: none
  LinearSpec output;
  NormSpec mlp_norm;
  std::vector<LinearSpec> gate;  // empty: the MLP is not gated
  LinearSpec up;
  LinearSpec down;
};

struct ModelSpec {
  std::string embedding;  // tensor [vocab, hidden]
  std::string positions;  // tensor [max_positions, hidden] added to the embedding; empty: none
  NormSpec final_norm;
  std::string output_embedding;  // tensor [vocab, hidden]; the embedding's own name when tied
  std::vector<BlockSpec> blocks;
};

struct Architecture {
  std::string name;  // config.json's model_type
  // Reads and checks the fields of config.json.
  std::function<ModelConfig(const Json& config, const std::string& where)> parse;
  // Names and wiring; the source tells which of several spellings is used.
  std::function<ModelSpec(const ModelConfig& config, const TensorSource& source)> spec;
};

// All architectures.
const std::vector<Architecture>& architectures();
// Throws unsupported, with the names there are.
const Architecture& find_architecture(std::string_view model_type, const std::string& where);

Architecture llama_architecture();
Architecture mistral_architecture();
Architecture qwen2_architecture();
Architecture qwen3_architecture();
Architecture gpt2_architecture();

}  // namespace qwb
