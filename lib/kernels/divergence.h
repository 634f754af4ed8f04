// How two rows of logits differ as distributions.
#pragma once

#include <cstdint>

namespace qwb {

struct RowDivergence {
  double kl = 0;                         // KL(softmax base || softmax other), nats
  double base_loss = 0, other_loss = 0;  // -log softmax[target]
  int64_t base_top = 0, other_top = 0;   // the lowest index of a largest logit
  bool finite = true;  // false: a NaN or infinite logit; the rest then means nothing
};

// f32 logits, everything behind them in f64: divergences of 1e-5 are differences of numbers near
// ten. Runs in the calling thread, vector lanes summed in a fixed order.
RowDivergence row_divergence(const float* base, const float* other, int64_t count, int64_t target);

}  // namespace qwb
