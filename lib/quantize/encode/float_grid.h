// Grids of floats as methods declare and store them (--grid); their arithmetic is
// lib/exec/float_grid.h. A grid decides bits and groups:
//   fp8, fp8-tensor, fp8-block   E4M3 codes; an f32 scale for each channel, for the tensor, for
//                                each 128 x 128 weights (lib/codec/fp8_blocks.h)
//   nvfp4   E2M1 codes; groups of 16 with E4M3 scales, over a power of two that the tensor shares
//   mxfp4   E2M1 codes; groups of 32 with power-of-two scales (both: lib/codec/fp4_groups.h)
#pragma once

#include <vector>

#include "lib/exec/grid.h"
#include "lib/quantize/method.h"

namespace qwb {

// The parameter "grid"; left out of the settings where it is "int".
Parameter grid_choice();
// False for integers.
bool is_float_grid(const Settings& settings);
// `given`, with bits and group_size as the grid has them where they are not given.
Json with_grid_defaults(const Json& given);
// Throws usage for settings that the grid does not have. scale_dtype: the method's default.
void check_float_grid(const Settings& settings, const std::string& scale_dtype,
                      const std::string& method);

// What one module's grid is: of a layout, and with the weights what their magnitudes decide.
WeightLayout float_grid_layout(const ModuleInfo& module, const Settings& settings);
struct FloatGrid {
  GridSettings grid;
  int64_t rows = 1;           // that share scales
  std::vector<float> scales;  // [out, groups] where rows share them, else empty
};
// weight [out, in]
FloatGrid float_grid(const ModuleInfo& module, const Settings& settings, const float* weight);

// Fills the parts of a tensor of that layout: one row's codes [in] and grids [groups]; what all
// rows share. Thread-safe for different rows.
void store_float_row(QuantizedTensor& tensor, const FloatGrid& grid, int64_t row,
                     const uint8_t* codes, const Grid* grids);
void store_shared_scale(QuantizedTensor& tensor, const FloatGrid& grid);

}  // namespace qwb
