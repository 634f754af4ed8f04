// Rounding and clipping rows for AWQ. All rows are f32, columns as stored.
#pragma once

#include <string>
#include <vector>

#include "lib/base/threads.h"
#include "lib/exec/calibration.h"

namespace qwb {

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
// No row gets worse than plain rounding. At most a few hundred rows, on the calling thread;
// task.fixed counts from the first of them.
RoundedRows clip_tile(const ClipTask& task, std::span<const float> weight);

// The operations of these names.
void clip_rows(const ClipTask& task, std::span<const float> weight, const ClipDone& done,
               Threads threads);
std::vector<double> rounded_errors(const ScaleTrial& trial);
std::vector<double> clipped_errors(const ScaleTrial& trial);

}  // namespace qwb
