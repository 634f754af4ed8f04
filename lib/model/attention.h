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

// Parts of several sequences that go through a layer together, their rows one behind the other. The
// bits of each are those it has alone.
class Batch {
 public:
  Batch(int64_t tokens, const RotaryTable& rotary, const LayerCache& cache)
      : parts_{{tokens, rotary, cache}} {}
  Batch(const SequencePart& part) : Batch(part.tokens, part.rotary, part.cache) {}
  explicit Batch(std::vector<SequencePart> parts);
  const std::vector<SequencePart>& parts() const { return parts_; }
  std::span<const int64_t> pieces() const { return pieces_; }  // as Rows takes them
  Rows rows(In values) const { return {values, pieces_}; }
  void set_cache(size_t part, const LayerCache& cache) { parts_[part].cache = cache; }

 private:
  std::vector<SequencePart> parts_;
  std::vector<int64_t> pieces_;  // of more than one part, the tokens of each
};

class Attention {
 public:
  Attention(const ModelConfig& config, const AttentionSpec& spec, const TensorSource& source,
            const Executor& executor);

  // The input of the output projection, [tokens, heads * head_dim], from h [tokens, hidden].
  void inner(const LayerContext& layer, In h, const Batch& batch, Out attended) const;
  // The projection whose output leaves the sublayer.
  const Linear& closing() const { return output_; }
  // In the order they are computed.
  std::vector<Linear*> linears();
  std::vector<const Norm*> norms() const { return {&q_norm_, &k_norm_}; }

 private:
  void project(const LayerContext& layer, const Rows& h, Out queries, Out keys, Out values) const;
  void project_grouped(const LayerContext& layer, const Rows& h, Out queries, Out keys,
                       Out values) const;
  void attend(const LayerContext& layer, const SequencePart& part, Out queries, Out attended) const;

  std::vector<Linear> qkv_;
  Norm q_norm_, k_norm_;
  bool norms_span_heads_;
  bool grouped_;
  Linear output_;
};

}  // namespace qwb
