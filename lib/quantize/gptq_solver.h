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

#include "lib/quantize/column_order.h"
#include "lib/quantize/integer_grid.h"
#include "lib/quantize/linear_algebra.h"
#include "lib/quantize/scale_search.h"

namespace qwb {

struct GptqSettings {
  GridSettings grid;
  ColumnOrder order = ColumnOrder::group_aware;
  double damping = 0.01;     // of the mean of diag(H), added to the diagonal
  bool scale_search = true;  // see scale_search.h; the importance of a column is H_ii
  int sweeps = 0;            // of coordinate descent afterwards (gptq_refine.h)
};

// H in the order of the work, damped and factorized.
struct PreparedMoments {
  std::vector<int64_t> order;     // order[position] = column
  std::vector<float> importance;  // by position: H_ii
  UpperFactor factor;
  FloatBuffer diagonal;  // [blocks, 128, 128]: the damped H's diagonal blocks; below them it is in
                         // factor.upper
  double damping =
      0;  // the one that made it positive definite: four times the asked one per failed attempt
  int attempts = 0;          // 1 if the first damping sufficed
  int64_t dead_columns = 0;  // channels that were 0 on every calibration token
};

// hessian [columns, columns], symmetric. A dead column (H_ii = 0) gets the mean of the diagonal and
// so is rounded by itself, like every column if H is all zero. Throws failed, naming the module, on
// NaN, Inf or a negative diagonal, and if a damping of 10 is not enough.
PreparedMoments prepare_moments(const float* hessian, int64_t columns, const GptqSettings& settings,
                                const std::string& module, const Context& context = {});

// Where the rows of a tile should go instead of W, so that the quantized module answers its own
// inputs x as the original answered the original's x*: the least squares solution W + W D H^-1, or
// W + (Y - W H) H^-1 where what the module should give is known itself; D and Y as Moments::drift
// and wanted. Columns in the checkpoint's order.
struct Correction {
  const float* drift = nullptr;    // D [columns, columns]; null: none
  const float* wanted = nullptr;   // the tile's rows of Y [rows, columns]; null: none
  const float* hessian = nullptr;  // H undamped, with `wanted`
  float strength = 1;              // share of the way to go
};

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

// weight [rows, columns], 1 <= rows <= 64. Throws failed, naming the module, if a scale does not
// fit its type.
SolvedRows solve_rows(const float* weight, int64_t rows, const Correction& correction,
                      const PreparedMoments& moments, const GptqSettings& settings,
                      const std::string& module);

// x H x^T of every row of x [rows, columns], with H symmetric (its upper triangle is read);
// products in f32, sums over them in f64. Tiles of 128 rows or so make the best of the pass over H.
std::vector<double> quadratic_forms(const float* x, int64_t rows, const float* hessian,
                                    int64_t columns);

}  // namespace qwb
