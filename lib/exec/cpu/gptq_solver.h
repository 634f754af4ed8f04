// The solver of GPTQ (Frantar et al. 2022, arXiv 2210.17323): quantizes the rows of W one column
// after the other, each time moving the columns that follow so that they make up for the error in
// the output, |(W - Q)
// X|^2 = tr((W - Q) H (W - Q)^T).
//
// With H = R R^T, R upper triangular, and D = W - Q, that is |D R|^2 per row, and column j of D R
// depends on the columns up to j only. So the best values of the columns of block b, given the
// finished ones before it, are C_b = W_b + D[:, before] R[before, b] U_b with U_b = R_bb^-1; inside
// the block GPTQ's column loop runs with U_b. This equals the textbook with H^-1 = U^T U, but needs
// no inverse of H, and the compensation is computed from W - Q each time instead of being
// accumulated.
//
// Rows are independent: tiles of 64 are solved in parallel, each one the same way whatever the
// number of threads.
#pragma once

#include <string>
#include <vector>

#include "lib/exec/calibration.h"
#include "lib/exec/cpu/factor.h"
#include "lib/exec/cpu/scale_search.h"

namespace qwb {

// Up to 64 rows at work. All matrices lie transposed, [columns, 64]: positions of the order down,
// output channels across.
struct GptqTile {
  GptqTile(int64_t columns, int64_t groups);
  int64_t columns;
  FloatBuffer aim;             // W': W, corrected
  FloatBuffer difference;      // W' - Q
  std::vector<uint8_t> codes;  // [columns, 64]
  std::vector<LaneGrids> grids;
};

// Up to 64 rows of one module, columns in the order of the checkpoint.
struct SolvedRows {
  explicit SolvedRows(int64_t columns, int64_t groups);
  std::vector<uint8_t> codes;  // [64, columns]
  std::vector<Grid> grids;     // [64, groups]
  FloatBuffer aim;             // [64, columns]: W, corrected
  FloatBuffer difference;      // [64, columns]: aim - Q
};

// Rows [first, first + rows) of the module, 1 <= rows <= 64; weight: these rows. Throws failed,
// naming the module, if a scale does not fit its type.
SolvedRows solve_rows(const GptqTask& task, const float* weight, int64_t first, int64_t rows);

// CalibrationOps::gptq_rows.
void gptq_rows(const GptqTask& task, std::span<const float> weight, const GptqDone& done,
               Threads threads);

}  // namespace qwb
