// One transformer layer on the tape: its forward pass keeps what its gradient needs, its backward
// pass turns the gradient by what leaves it into that by what enters, and adds up the gradients by
// the low-rank factors on the way.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "lib/model/tape/taped_attention.h"
#include "lib/model/tape/taped_mlp.h"
#include "lib/model/tape/taped_moe.h"

namespace qwb {

// Attention and MLP beside each other.
struct ParallelTape {
  AttentionTape attention;
  Matrix mlp_input;  // its own norm's output; empty: it reads what the attention reads
  MlpTape mlp;
  Matrix attention_output, mlp_output;  // TapedLinear::forward() of the closing modules
};

struct SublayerTape {
  Matrix x, h;  // what enters, and what the mixer reads; x is empty where they are one
  std::variant<AttentionTape, MlpTape, MoeTape, ParallelTape> mixer;
  Matrix closing;  // TapedLinear::forward() of the closing module
  Matrix output;   // before the norm behind the mixer; empty: there is none
};
using BlockTape = std::vector<SublayerTape>;

class TapedSublayer {
 public:
  TapedSublayer(const ModelConfig& config, const SublayerSpec& spec, const TensorSource& source,
                const Executor& executor);

  void forward(const LayerContext& layer, const TapeRows& rows, const RotaryTable& rotary, Out x,
               SublayerTape& tape) const;
  // dx: by what leaves, then by what enters.
  void back(const LayerContext& layer, const TapeRows& rows, const RotaryTable& rotary,
            const SublayerTape& tape, Out dx) const;
  std::vector<TapedLinear*> linears();

 private:
  struct Parallel {
    TapedAttention attention;
    Norm mlp_norm;
    TapedMlp mlp;
  };
  using Mixer = std::variant<TapedAttention, TapedMlp, TapedMoe, Parallel>;
  struct MakeMixer;
  struct Forward;
  struct Back;

  Norm before_, after_;
  Mixer mixer_;
};

class TapedBlock {
 public:
  TapedBlock(const ModelConfig& config, const BlockSpec& spec, int64_t index,
             const TensorSource& source, const Executor& executor);

  // x [tokens, hidden] goes through all sublayers.
  BlockTape forward(const TapeRows& rows, const RotaryTable& rotary, Out x) const;
  void back(const TapeRows& rows, const RotaryTable& rotary, const BlockTape& tape, Out dx) const;
  std::vector<TapedLinear*> linears();
  bool adapted() const;

 private:
  LayerContext layer() const { return {config_, executor_, index_}; }

  const ModelConfig& config_;
  const Executor& executor_;
  int64_t index_;
  std::vector<TapedSublayer> sublayers_;
};

// Values that a block's tape holds for each token.
int64_t tape_values(const ModelConfig& config, const BlockSpec& spec);

}  // namespace qwb
