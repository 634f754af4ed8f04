// Scaling the inputs of one block's modules (Method::scale_inputs): finds out which input groups
// can be scaled, lets the method choose, and works out what the choice means for norms, biases and
// weights. Only scaling that is exact is done: the input's makers must take the scales without any
// other module noticing.
//
//   q, k, v          the norm before them: gain / s and, in a LayerNorm, bias / s
//   output           the rows of v (heads that share their values share their scales), and v's bias
//   gate, up         the norm before them
//   down             the rows of up, and its bias; without a gate only if the activation is relu
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lib/model/model.h"
#include "lib/quantize/calibrate/block_calibration.h"
#include "lib/quantize/plan/plan.h"

namespace qwb {

// A norm or bias of the block with the scales in it.
struct ScaledTensor {
  std::string name;  // in the checkpoint
  Tensor stored;     // in the checkpoint's type
};

struct ScaledNorm {
  std::string module;
  std::vector<float> gain, bias;  // as stored
};

struct BlockScaling {
  std::map<std::string, FoldedScales> folded;  // by module; others keep their weights
  std::map<std::string, Json> details;         // by module, for each whose method scales inputs
  std::vector<ScaledNorm> norms;
  std::map<std::string, std::vector<float>> biases;  // by module, as stored
  std::vector<ScaledTensor> replaced;                // all of these, for the artifact

  const FoldedScales* folded_into(const std::string& module) const;
  // The block goes on with the scaled norms and biases.
  void apply(BlockCalibration& block) const;
};

// Whether any method of the plan scales inputs.
bool scales_inputs(const Plan& plan);

// modules: the planned ones of block `index`. The stream, at the block's input, stays as it is.
// Surveys the block only if an input group can be scaled. Throws what the survey and the method
// throw.
BlockScaling scale_block(const Model& model, int64_t index,
                         const std::vector<const PlannedModule*>& modules,
                         const ResidualStream& stream, const Context& context);

// The first rows of a module that make queries and keys.
int64_t query_key_rows(const Model& model, const PlannedModule& module);

}  // namespace qwb
