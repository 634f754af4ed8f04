// Self-attention on the tape, as attention.h, of whole sequences.
#pragma once

#include <vector>

#include "lib/model/rotary.h"
#include "lib/model/tape/taped_linear.h"

namespace qwb {

// What its gradient needs besides its input.
struct AttentionTape {
  std::vector<Matrix> inner;       // of the modules for q, k and v: TapedLinear::forward()
  Matrix bare_queries, bare_keys;  // before their norms; empty: there are none
  Matrix queries, keys, values;    // as they meet: normed, rotated
  Matrix attended, sums;
};

class TapedAttention {
 public:
  TapedAttention(const ModelConfig& config, const AttentionSpec& spec, const TensorSource& source,
                 const Executor& executor);

  // tape.attended [tokens, heads * head_dim] of h [tokens, hidden]. rotary: of the longest
  // document.
  void forward(const LayerContext& layer, const TapeRows& rows, const RotaryTable& rotary, In h,
               AttentionTape& tape) const;
  // dh = the gradient by h from that by tape.attended, or dh += that.
  void back(const LayerContext& layer, const TapeRows& rows, const RotaryTable& rotary, In h,
            const AttentionTape& tape, In dattended, Out dh, Accumulate accumulate) const;
  std::vector<TapedLinear*> linears();
  const TapedLinear& closing() const { return output_; }

 private:
  void project(const LayerContext& layer, const TapeRows& rows, In h, AttentionTape& tape) const;
  void norm_heads(const LayerContext& layer, const Norm& norm, int64_t heads, Out x,
                  Matrix& bare) const;
  void norm_heads_back(const LayerContext& layer, const Norm& norm, int64_t heads,
                       const Matrix& bare, Out dx) const;
  AttentionShape shape(const LayerContext& layer) const;

  std::vector<TapedLinear> qkv_;
  Norm q_norm_, k_norm_;
  bool norms_span_heads_;
  TapedLinear output_;
};

}  // namespace qwb
