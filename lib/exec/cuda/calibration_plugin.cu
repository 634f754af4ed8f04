// The part of the table that calibration asks for.
#include "lib/exec/cuda/calibration_operations.cuh"
#include "lib/exec/cuda/operations.cuh"

namespace qwb::cuda {

CalibrationFunctions calibration_table() {
  CalibrationFunctions f = {};
  f.download = download, f.to_halves = to_halves, f.from_halves = from_halves,
  f.subtract = subtract, f.subtract_row = subtract_row, f.add_columns = add_columns,
  f.take_out_means = take_out_means, f.mirror = mirror,
  f.clear_negative_diagonal = clear_negative_diagonal, f.scale_moments = scale_moments,
  f.transpose = transpose, f.add_forms = add_forms;
  f.multiply = multiply;
  f.round_product = round_product, f.add_moments = add_moments, f.round_attention = round_attention;
  f.fill_damped = fill_damped, f.factorize_block = factorize_block;
  f.permute = permute, f.permute_codes = permute_codes, f.set_difference = set_difference,
  f.choose_grids = choose_grids, f.solve_columns = solve_columns, f.round_plainly = round_plainly,
  f.take_rows = take_rows, f.row_sums = row_sums;
  f.descend = descend, f.refit_inside = refit_inside, f.group_steps = group_steps,
  f.add_slopes = add_slopes, f.move_scales = move_scales;
  f.rounded_difference = rounded_difference, f.scale_columns = scale_columns, f.clip_set = clip_set,
  f.clip_search = clip_search, f.clip_begin = clip_begin, f.clip_try = clip_try,
  f.clip_judge = clip_judge, f.clip_change = clip_change;
  return f;
}

}  // namespace qwb::cuda
