// Integer grids as methods declare and store them; their arithmetic is lib/exec/grid.h.
#pragma once

#include <string>
#include <vector>

#include "lib/exec/grid.h"
#include "lib/quantize/method.h"

namespace qwb {

// bits, group_size, symmetric, scale_dtype with these defaults.
std::vector<Parameter> grid_parameters(const std::string& scale_dtype, bool symmetric = true);
// Throws usage for group_size 0.
void check_grid_settings(const Settings& settings, const std::string& method);
// Throws usage, naming the module, if the group is longer than the row.
GridSettings grid_settings(const ModuleInfo& module, const Settings& settings);
WeightLayout grid_layout(const ModuleInfo& module, const Settings& settings);

// Fills the parts of a tensor of grid_layout(): one row's codes [in] and grids [groups].
// Thread-safe for different rows.
void store_grid_row(QuantizedTensor& tensor, const GridSettings& settings, int64_t row,
                    const uint8_t* codes, const Grid* grids);

}  // namespace qwb
