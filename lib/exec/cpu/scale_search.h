// Chooses the integer grids of one group for many output channels at once. Values lie transposed:
// lane r of row i is the weight of output channel r for input channel i, so that the plain loops
// vectorise over channels and give the same bits whatever the vector's width.
#pragma once

#include <cstdint>
#include <string>

#include "lib/exec/calibration.h"

namespace qwb {

// The grids of one group: codes are clamp(round(w / scale), -zero, max_code - zero) + zero, all
// held as floats.
struct LaneGrids {
  float scale[kRowLanes];
  float zero[kRowLanes];
};

// values [count, 64]. Grids of floats: float_lanes.h. Of integers, without search: the grids that
// cover each channel's values. With search: of 61 factors 0.50 .. 1.10 that shrink or widen the
// covered range, the one with the smallest sum over i of importance[i] * (value - quantized
// value)^2; a factor other than 1 must be strictly better. Throws failed, naming the module, if a
// scale does not fit its type.
void choose_grids(const float* values, int64_t count, const float* importance, bool search,
                  const GridSettings& settings, const std::string& module, LaneGrids& grids);

}  // namespace qwb
