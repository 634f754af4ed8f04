// Rounding and clipping rows for AWQ. All rows are f32, columns in the checkpoint's order.
#pragma once

#include <string>
#include <vector>

#include "lib/quantize/integer_grid.h"

namespace qwb {

// How many of the module's first rows the settings leave unclipped.
int64_t unclipped_rows(const ModuleTask& task, const Settings& settings);

// difference = w - Q(w s) / s for one row, the grid covering each group; s null: all ones.
void rounding_difference(const float* weight, int64_t columns, const float* scales,
                         const GridSettings& settings, const std::string& module,
                         float* difference);

struct RoundedRows {
  std::vector<uint8_t> codes;  // [rows, columns]
  std::vector<Grid> grids;     // [rows, groups]
  FloatBuffer difference;      // [rows, columns]: w - Q
  std::vector<double> errors;  // by row: difference H difference^T
  std::vector<double> norms;   // by row: w H w^T
  int64_t clipped = 0;         // groups whose range was changed
};

// Rounds rows [rows, columns], each group's range shrunk so that the output error d H d^T, d = w -
// Q, gets small: the groups of a row are settled one after the other, each with what the others
// lose in view. In the first pass both ends of a range take the best factor of 1, 0.95 .. 0.5; in
// those after it each end moves by itself, by 0.05 and by 0.025 of it in turn, within 0.25 .. 1.1.
// The first `fixed` rows keep their ranges. No row gets worse than plain rounding. hessian
// [columns, columns]; at most a few hundred rows, on the calling thread.
RoundedRows clip_rows(const float* weight, int64_t rows, int64_t fixed, int64_t columns,
                      const float* hessian, const GridSettings& settings, const std::string& module,
                      int passes);

}  // namespace qwb
