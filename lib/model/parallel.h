// Attention and MLP beside each other: both read the stream that enters, and their sum leaves.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/model/attention.h"
#include "lib/model/input_group.h"
#include "lib/model/mlp.h"

namespace qwb {

class Parallel {
 public:
  Parallel(const ModelConfig& config, const ParallelSpec& spec, const TensorSource& source,
           const Executor& executor);

  // input: what the readers of the group read; x enters the sublayer, h is its norm's output.
  void input(const LayerContext& layer, const InputGroup& group, In x, In h, const Batch& batch,
             Out input) const;
  // out [tokens, hidden] = attention(h) + mlp(its norm's output, or h).
  void forward(const LayerContext& layer, In x, In h, const Batch& batch, Out out) const;
  // In the order they are computed.
  std::vector<Linear*> linears();
  // Of the residual stream.
  Norm& mlp_norm() { return mlp_norm_; }
  // That one and those of the heads.
  std::vector<const Norm*> norms() const;

 private:
  // Which of the two sees h: all that has no norm of its own.
  Matrix mlp_input(const LayerContext& layer, In x, In h) const;

  Attention attention_;
  Norm mlp_norm_;
  Mlp mlp_;
};

}  // namespace qwb
