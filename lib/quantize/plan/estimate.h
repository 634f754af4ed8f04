// What a run will take, before it starts.
#pragma once

#include <cstdint>

#include "lib/model/model.h"
#include "lib/quantize/calibrate/calibration.h"
#include "lib/quantize/plan/plan.h"

namespace qwb {

// Bytes of memory at the peak, mapped weights included.
struct MemoryNeed {
  int64_t fixed = 0;    // whatever stays in memory
  int64_t kept = 0;     // activations kept between two input groups of a block: may lie on disk
  int64_t streams = 0;  // residual streams: may lie on disk
};
MemoryNeed estimate_memory(const Model& model, const Plan& plan, const CalibrationSet* calibration);

// Seconds of the work on all threads: the first block is begun with one and two batches of windows,
// its modules are quantized, and both are scaled up. Modules too large to try follow from smaller
// ones of two sizes.
double estimate_seconds(const Model& model, const Plan& plan, const CalibrationSet* calibration,
                        const Context& context = {});

// What takes `half` and `whole` seconds at half a size and at that size, at `times` the size, if it
// grows with a term in n and one in n^power. Neither term is below 0, whatever the clock said.
double extrapolated(double half, double whole, double power, double times);

}  // namespace qwb
