// The part of interface.h that calibration asks for: sums over activations, factors, and rows of
// GPTQ and AWQ at work. The same rules hold.
#pragma once

#include "lib/exec/cuda/interface.h"

namespace qwb::cuda {

constexpr int64_t kBlockColumns = 128;  // kFactorBlock

struct GridShape {  // GridSettings
  int bits, symmetric;
  Number scales;
  int64_t group;
};

// c = factor a b^T, or c += that. b is [n, k], or [k, n] where it lies down.
struct Multiply {
  ConstView a, b;
  View c;
  int down, add;
  float factor;
  int upper;  // tiles of c below its diagonal are left out
};

struct Factors {  // UpperFactor
  float *upper, *inverses, *diagonal;
  int64_t size;
};

// Rows of GPTQ; matrices are [rows, columns], columns by position.
struct RowsAtWork {
  int64_t rows, columns, groups;
  float* aim;         // W'
  float* target;      // C
  float* difference;  // W' - Q of the finished columns
  unsigned char* codes;
  float *scale, *zero;      // [rows, groups]
  const int32_t* group_of;  // [columns]
  const float* importance;  // [columns]
  GridShape grid;
  int search;
  uint32_t* overflow;  // the bits of the largest scale that does not fit; 0: all fit
};

// Columns of a group that lie in one block.
struct GroupColumns {
  int64_t block, begin, end;
};
// The error as a row's scale moves: slope and curvature [rows].
struct Parabolas {
  double *slope, *curvature;
};

// What a row became, columns as stored.
struct RoundedRow {
  unsigned char* codes;  // [rows, columns]
  float *scale, *zero;   // [rows, groups]
  float* difference;     // [rows, columns]
};

// A group's ranges under trial, by row: what the two ends are shrunk by, in fortieths.
struct Shrinks {
  int *low, *high;
};
struct ClipRows {
  int64_t rows, columns, groups;
  const float* weight;
  unsigned char* codes;
  float *scale, *zero;
  float* difference;  // [rows, columns]
  Shrinks chosen;     // [rows, groups]
  const int* widest;  // [rows]
  int64_t fixed;      // the first rows that keep their ranges
  GridShape grid;
  uint32_t* overflow;
};
// One group of them.
struct ClipGroup {
  int64_t group, first, count;
  float* candidate;  // d [rows, count]
  float* cross;      // what the others lose [rows, count]
  float* product;    // d H_gg [rows, count]
  double* best;      // [rows]
  Shrinks found;     // [rows]
};
// What a pass tries, in fortieths (lib/exec/range_search.h).
constexpr int kMostMoves = 32;
struct ShrinkMoves {
  int count;
  signed char low[kMostMoves], high[kMostMoves];
};

struct CalibrationFunctions {
  int (*download)(Queue* queue, const void* data, void* host, int64_t bytes);  // waits

  // Rows as CalibrationOps keeps them, in the device's memory.
  int (*to_halves)(Queue* queue, ConstView x, uint16_t* halves, float* scales);
  int (*from_halves)(Queue* queue, const uint16_t* halves, const float* scales, View x);
  int (*subtract)(Queue* queue, View x, ConstView y);
  int (*subtract_row)(Queue* queue, View x, const float* row);
  // sums[c] += x[r, c] or |x[r, c]|, r ascending.
  int (*add_columns)(Queue* queue, ConstView x, int magnitudes, double* sums);
  int (*take_out_means)(Queue* queue, View m, const double* left, const double* right,
                        double tokens);
  int (*mirror)(Queue* queue, View h);
  int (*clear_negative_diagonal)(Queue* queue, View h);
  int (*scale_moments)(Queue* queue, ConstView h, const float* scales, View scaled);
  int (*transpose)(Queue* queue, ConstView x, View y);
  // sums[r] += the sum over c of x[r, c] product[r, c], in f64.
  int (*add_forms)(Queue* queue, ConstView x, ConstView product, double* sums);
  int (*multiply)(Queue* queue, const Multiply* task);

  // Of one part each, operands rounded to bf16: c [m, n] = a b^T + bias or c += that; and c [m, n]
  // += a^T b for a [k, m], b [k, n], upper: tiles below the diagonal are left out.
  int (*round_product)(Queue* queue, Parts a, Parts b, const float* bias, View c, int add);
  int (*add_moments)(Queue* queue, Parts a, Parts b, View c, int upper);
  // As Functions::attention; many queries of heads of up to 128 values, a multiple of 8, are
  // rounded to bf16, and so are keys, values and exponentials.
  int (*round_attention)(Queue* queue, ConstView queries, ConstView keys, ConstView values,
                         const Attention* shape, View y);

  // upper and diagonal from H in that order; *bad = 1 for NaN or Inf.
  int (*fill_damped)(Queue* queue, ConstView h, const int32_t* order, double mean, double added,
                     Factors factor, int* bad);
  // Factorizes and inverts a diagonal block; room: kBlockColumns^2. *bad = 2 for a pivot that is
  // not above the least.
  int (*factorize_block)(Queue* queue, Factors factor, int64_t block, double minimum_pivot,
                         double* room, int* bad);

  // to[r, p] = from[r, index[p]]
  int (*permute)(Queue* queue, ConstView from, const int32_t* index, View to);
  int (*permute_codes)(Queue* queue, int64_t rows, int64_t columns, const unsigned char* from,
                       const int32_t* index, unsigned char* to);
  // difference = aim - target for some columns
  int (*set_difference)(Queue* queue, RowsAtWork rows, int64_t first, int64_t count);
  // A group's grids from `values` at these positions (null: from `first` on).
  int (*choose_grids)(Queue* queue, RowsAtWork rows, const float* values, const int32_t* positions,
                      int64_t first, int64_t count, int64_t group);
  // GPTQ's loop over columns [begin, end) of one block; the rest of the block is compensated.
  int (*solve_columns)(Queue* queue, RowsAtWork rows, int64_t block, int64_t begin, int64_t end,
                       const float* inverse);
  // Coordinate descent over one block; gradient [rows, kBlockColumns] of it.
  int (*descend)(Queue* queue, RowsAtWork rows, int64_t block, const float* diagonal,
                 float* gradient, int* changed);
  // The scales of a group inside of one block.
  int (*refit_inside)(Queue* queue, RowsAtWork rows, GroupColumns columns, const float* diagonal,
                      float* gradient, int* changed);
  // Those of a longer one: its codes less the zero points; sums of slope and curvature [rows] over
  // some of its columns, whose gradient and product with H are the block's; the move.
  int (*group_steps)(Queue* queue, RowsAtWork rows, int64_t begin, int64_t end, float* steps);
  int (*add_slopes)(Queue* queue, RowsAtWork rows, const float* steps, GroupColumns columns,
                    const float* gradient, const float* product, Parabolas sums);
  int (*move_scales)(Queue* queue, RowsAtWork rows, const float* steps, int64_t begin, int64_t end,
                     Parabolas sums, int* changed);

  // Plain rounding of weight [rows, columns]; difference = aim - Q.
  int (*round_plainly)(Queue* queue, ConstView weight, const float* aim, GridShape grid,
                       RoundedRow made, uint32_t* overflow);
  // Rows with a mark take what the other has.
  int (*take_rows)(Queue* queue, int64_t rows, int64_t columns, int64_t groups,
                   const unsigned char* marks, RoundedRow other, RoundedRow made);
  // By row, in f64: of (w - v)^2 and w^2, v = aim - difference; and of w m - v i (m, i: null or
  // [columns]).
  int (*row_sums)(Queue* queue, ConstView weight, const float* aim, const float* difference,
                  const double* mean_of_weight, const double* mean_of_value, double* sums);

  // The differences of w s, rounded by plain grids, over s (null: ones).
  int (*rounded_difference)(Queue* queue, ConstView weight, const float* scales, GridShape grid,
                            View difference, uint32_t* overflow);
  int (*scale_columns)(Queue* queue, View x, const float* scales);
  // Group `group` of every row as `shrinks` [rows] (null: none) asks: codes, grids, differences.
  int (*clip_set)(Queue* queue, ClipRows rows, int64_t group, const int* low, const int* high);
  // One group of up to kBlockColumns columns under all moves, H_gg = own, product = D H: the best
  // of them stays; candidate becomes what that changed in the differences.
  int (*clip_search)(Queue* queue, ClipRows rows, ClipGroup group, ConstView product, ConstView own,
                     const ShrinkMoves* moves, int pass);
  // The same of a longer group, step by step. candidate = the group's differences
  int (*clip_begin)(Queue* queue, ClipRows rows, ClipGroup group, ConstView product);
  int (*clip_try)(Queue* queue, ClipRows rows, ClipGroup group, int low, int high, int pass);
  // Takes the trial's cost in; first: it is what there is now.
  int (*clip_judge)(Queue* queue, ClipRows rows, ClipGroup group, int low, int high, int pass,
                    int first);
  // Sets what was found; candidate = how far the differences moved.
  int (*clip_change)(Queue* queue, ClipRows rows, ClipGroup group);
};

}  // namespace qwb::cuda
