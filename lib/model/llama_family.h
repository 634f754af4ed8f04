// The wiring that Llama, Mistral and Qwen share: RMSNorm, q/k/v, rotation, grouped attention, o;
// RMSNorm, gate and up, down.
#pragma once

#include "lib/model/architecture.h"

namespace qwb {

struct LlamaBiases {
  bool qkv = false;
  bool output = false;
  bool mlp = false;
  bool qk_norms = false;  // Qwen3: RMSNorm over each head of q and k
};

ModelSpec llama_family_spec(const ModelConfig& config, const LlamaBiases& biases);
// True if the source has "<module>.bias".
bool has_bias(const TensorSource& source, const std::string& module);

}  // namespace qwb
