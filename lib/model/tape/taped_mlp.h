// An MLP on the tape, as mlp.h.
#pragma once

#include <optional>
#include <vector>

#include "lib/model/tape/taped_linear.h"

namespace qwb {

// What its gradient needs besides its input.
struct MlpTape {
  Matrix gate, up;              // before the activation; up is empty where the MLP is not gated
  Matrix inner;                 // the input of the closing module
  Matrix gate_inner, up_inner;  // TapedLinear::forward() of the modules
};

class TapedMlp {
 public:
  TapedMlp(const MlpSpec& spec, const TensorSource& source, const Executor& executor);

  // tape.inner [rows, intermediate] of h [rows, hidden].
  void forward(const LayerContext& layer, const TapeRows& rows, In h, MlpTape& tape) const;
  // dh = the gradient by h from that by tape.inner, which is used up; or dh += that.
  void back(const LayerContext& layer, const TapeRows& rows, In h, const MlpTape& tape, Out dinner,
            Out dh, Accumulate accumulate) const;
  std::vector<TapedLinear*> linears();
  const TapedLinear& closing() const { return down_; }

 private:
  std::optional<TapedLinear> gate_;
  TapedLinear up_, down_;
  bool fused_;
};

}  // namespace qwb
