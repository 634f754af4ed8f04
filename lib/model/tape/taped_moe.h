// A mixture of experts on the tape, as moe.h. Which expert a token goes to is not differentiable
// and stays as it is; what the experts' answers are multiplied with is.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/model/tape/taped_mlp.h"

namespace qwb {

struct ExpertTape {
  std::vector<int64_t> tokens;
  std::vector<float> weights;
  Matrix x;  // their rows
  MlpTape mlp;
  Matrix closing, output;  // TapedLinear::forward() of the closing module, and its output
};
struct MoeTape {
  Matrix router;  // TapedLinear::forward()
  std::vector<ExpertTape> experts;
};

class TapedMoe {
 public:
  TapedMoe(const MoeSpec& spec, const TensorSource& source, const Executor& executor);

  // output [tokens, hidden] of h.
  void forward(const LayerContext& layer, const TapeRows& rows, In h, MoeTape& tape,
               Out output) const;
  // dh = the gradient by h.
  void back(const LayerContext& layer, const TapeRows& rows, In h, const MoeTape& tape, In doutput,
            Out dh) const;
  std::vector<TapedLinear*> linears();

 private:
  TapedLinear router_;
  std::vector<TapedMlp> experts_;
  int64_t used_;
};

}  // namespace qwb
