// The two ends of a model in calibration: the embedding that the stream begins with, and the inputs of the
// output embedding.
#pragma once

#include "lib/quantize/block_calibration.h"

namespace qwb {

// The stream begins anew with this token embedding [vocab, hidden] in place of the model's own.
void embed_stream(const Model& model, const CalibrationSet& calibration, const Weight& embedding,
                  ResidualStream& stream);

// Moments of what the final norm makes of the stream that leaves the last block, and where there is a
// reference of the drift from what it makes of that.
class OutputMoments {
 public:
  // Throws failed on NaN or Inf.
  OutputMoments(const Model& model, const ResidualStream& stream, const ResidualStream* reference);
  const Moments& moments() const { return moments_; }

 private:
  FloatBuffer hessian_, drift_;  // [hidden, hidden]
  Moments moments_;
};

}  // namespace qwb
