// GPTQ's work on grids of floats (float_grid.h), for 64 output channels at once, lane by lane.
#pragma once

#include <span>
#include <vector>

#include "lib/exec/cpu/scale_search.h"
#include "lib/exec/float_grid.h"

namespace qwb {

// values = the nearest points of x / scale, times the scale.
void round_float_lanes(const float* x, const float* scale, GridPoints points, float* values,
                       uint8_t* codes);

// values [count, 64]. The scales that cover each channel's values; with search, of those that
// float_scale_candidate() gives the one with the smallest sum over i of importance[i] * (value -
// quantized value)^2, the first of equals.
void choose_float_scales(const float* values, int64_t count, const float* importance, bool search,
                         const GridSettings& settings, LaneGrids& grids);

// Rows [first, first + rows) of GptqTask::scales; the lanes beyond get 1.
void set_fixed_scales(std::span<const float> scales, int64_t first, int64_t rows,
                      std::vector<LaneGrids>& grids);

// The grid of a group of one row without a search: fixed, or covering its values.
Grid plain_float_grid(const GptqTask& task, int64_t row, int64_t group, const float* values,
                      int64_t count);

}  // namespace qwb
