// Vector kernels of training, as simd.h.
#pragma once

#include <cstdint>

#include "lib/exec/executor.h"

namespace qwb::simd {

// x[i] = exp(x[i] * scale - offset)
void exponentials(float* x, int64_t count, float scale, float offset);
// dscores[i] = weights[i] * (dscores[i] - mean) * scale
void softmax_back(const float* weights, float mean, float scale, float* dscores, int64_t count);
// What TrainingOps::activate_back says, of one run of values; up and dup null: not gated. dgate may
// be dy.
struct BackRun {
  const float *gate, *up, *dy;
  float *dgate, *dup;
  int64_t count;
};
void activate_back(Activation activation, const BackRun& run);
// One row. add: dx += the gradient. dx may be dy.
struct NormRow {
  const float *x, *gain, *dy;
  int64_t count;
};
void rms_norm_back(const NormRow& row, float eps, bool add, float* dx);
void layer_norm_back(const NormRow& row, float eps, bool add, float* dx);
// AdamW (training.h) in the order of operations given there; what does not change from value to
// value is divided out before.
struct AdamWRun {
  float keep;                        // 1 - rate * decay
  float rate;                        // rate / (1 - beta1^step)
  float beta1, rest1, beta2, rest2;  // rest: 1 - beta
  float second;                      // 1 / (1 - beta2^step)
  float eps, gradient_scale;
};
void adamw(float* x, const float* gradient, float* first, float* second, int64_t count,
           const AdamWRun& run);

}  // namespace qwb::simd
