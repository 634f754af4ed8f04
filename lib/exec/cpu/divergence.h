// How two rows of logits differ as distributions.
#pragma once

#include <cstdint>

#include "lib/exec/executor.h"

namespace qwb {

// f32 logits, everything behind them in f64: divergences of 1e-5 are differences of numbers near
// ten. Runs in the calling thread, vector lanes summed in a fixed order.
RowDivergence row_divergence(const float* base, const float* other, int64_t count, int64_t target);

}  // namespace qwb
