// Self-attention between a sublayer's norm and its output projection: q, k, v (separate or fused),
// norms over the heads, rotation, cache, softmax attention.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/model/linear.h"
#include "lib/model/rotary.h"

namespace qwb {

// Keys and values of one layer, [capacity, kv_heads * head_dim]; the first `past` rows are filled.
struct LayerCache {
  Out keys = {};
  Out values = {};
  int64_t past = 0;
};

// Consecutive tokens of one sequence on their way through a layer.
struct SequencePart {
  int64_t tokens;
  const RotaryTable& rotary;  // of these tokens
  LayerCache cache;
};

class Attention {
 public:
  Attention(const ModelConfig& config, const AttentionSpec& spec, const TensorSource& source,
            const Executor& executor);

  // The input of the output projection, [tokens, heads * head_dim], from h [tokens, hidden].
  void inner(const LayerContext& layer, In h, const SequencePart& part, Out attended) const;
  // The projection whose output leaves the sublayer.
  const Linear& closing() const { return output_; }
  // In the order they are computed.
  std::vector<Linear*> linears();
  std::vector<const Norm*> norms() const { return {&q_norm_, &k_norm_}; }

 private:
  void project(const LayerContext& layer, In h, Out queries, Out keys, Out values) const;

  std::vector<Linear> qkv_;
  Norm q_norm_, k_norm_;
  Linear output_;
};

}  // namespace qwb
