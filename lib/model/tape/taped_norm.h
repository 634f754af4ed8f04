// The gradient of a norm by its input.
#pragma once

#include "lib/exec/training.h"
#include "lib/model/linear.h"

namespace qwb {

// dx = the gradient by x from dy, that by norm(x), or dx += that. In place if dx is dy.
inline void norm_back(const LayerContext& layer, const Norm& norm, In x, In dy, Out dx,
                      Accumulate accumulate) {
  const TrainingOps& ops = layer.executor.training();
  if (norm.spec.centred) {
    ops.layer_norm_back(x, norm.gain.view(), layer.config.norm_eps, dy, dx, accumulate);
  } else {
    ops.rms_norm_back(x, norm.gain.view(), layer.config.norm_eps, dy, dx, accumulate);
  }
}

}  // namespace qwb
