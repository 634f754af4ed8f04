// The functions of calibration's table, each in the file of its kernels.
#pragma once

#include "lib/exec/cuda/calibration_interface.h"

namespace qwb::cuda {

// moments.cu
int download(Queue* queue, const void* data, void* host, int64_t bytes);
int to_halves(Queue* queue, ConstView x, uint16_t* halves, float* scales);
int from_halves(Queue* queue, const uint16_t* halves, const float* scales, View x);
int subtract(Queue* queue, View x, ConstView y);
int subtract_row(Queue* queue, View x, const float* row);
int add_columns(Queue* queue, ConstView x, int magnitudes, double* sums);
int take_out_means(Queue* queue, View m, const double* left, const double* right, double tokens);
int mirror(Queue* queue, View h);
int clear_negative_diagonal(Queue* queue, View h);
int scale_moments(Queue* queue, ConstView h, const float* scales, View scaled);
int transpose(Queue* queue, ConstView x, View y);
int add_forms(Queue* queue, ConstView x, ConstView product, double* sums);

// multiply.cu
int multiply(Queue* queue, const Multiply* task);

// round_product.cu
int round_product(Queue* queue, Parts a, Parts b, const float* bias, View c, int add);
int add_moments(Queue* queue, Parts a, Parts b, View c, int upper);

// round_attention.cu
int round_attention(Queue* queue, ConstView queries, ConstView keys, ConstView values,
                    const Attention* shape, View y);

// factor.cu
int fill_damped(Queue* queue, ConstView h, const int32_t* order, double mean, double added,
                Factors factor, int* bad);
int factorize_block(Queue* queue, Factors factor, int64_t block, double minimum_pivot, double* room,
                    int* bad);

// gptq_rows.cu
int permute(Queue* queue, ConstView from, const int32_t* index, View to);
int permute_codes(Queue* queue, int64_t rows, int64_t columns, const unsigned char* from,
                  const int32_t* index, unsigned char* to);
int set_difference(Queue* queue, RowsAtWork rows, int64_t first, int64_t count);
int choose_grids(Queue* queue, RowsAtWork rows, const float* values, const int32_t* positions,
                 int64_t first, int64_t count, int64_t group);
int solve_columns(Queue* queue, RowsAtWork rows, int64_t block, int64_t begin, int64_t end,
                  const float* inverse);
int round_plainly(Queue* queue, ConstView weight, const float* aim, GridShape grid, RoundedRow made,
                  uint32_t* overflow);
int take_rows(Queue* queue, int64_t rows, int64_t columns, int64_t groups,
              const unsigned char* marks, RoundedRow other, RoundedRow made);
int row_sums(Queue* queue, ConstView weight, const float* aim, const float* difference,
             const double* mean_of_weight, const double* mean_of_value, double* sums);

// gptq_refine.cu
int descend(Queue* queue, RowsAtWork rows, int64_t block, const float* diagonal, float* gradient,
            int* changed);
int refit_inside(Queue* queue, RowsAtWork rows, GroupColumns columns, const float* diagonal,
                 float* gradient, int* changed);
int group_steps(Queue* queue, RowsAtWork rows, int64_t begin, int64_t end, float* steps);
int add_slopes(Queue* queue, RowsAtWork rows, const float* steps, GroupColumns columns,
               const float* gradient, const float* product, Parabolas sums);
int move_scales(Queue* queue, RowsAtWork rows, const float* steps, int64_t begin, int64_t end,
                Parabolas sums, int* changed);

// clip_rows.cu, clip_search.cu
int rounded_difference(Queue* queue, ConstView weight, const float* scales, GridShape grid,
                       View difference, uint32_t* overflow);
int scale_columns(Queue* queue, View x, const float* scales);
int clip_set(Queue* queue, ClipRows rows, int64_t group, const int* low, const int* high);
int clip_search(Queue* queue, ClipRows rows, ClipGroup group, ConstView product, ConstView own,
                const ShrinkMoves* moves, int pass);
int clip_begin(Queue* queue, ClipRows rows, ClipGroup group, ConstView product);
int clip_try(Queue* queue, ClipRows rows, ClipGroup group, int low, int high, int pass);
int clip_judge(Queue* queue, ClipRows rows, ClipGroup group, int low, int high, int pass,
               int first);
int clip_change(Queue* queue, ClipRows rows, ClipGroup group);

}  // namespace qwb::cuda
