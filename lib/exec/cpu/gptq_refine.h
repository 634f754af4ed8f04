// Coordinate descent over finished codes: GPTQ decides each column once and never comes back; here
// every code of a row is moved, one at a time, to the grid point that is best given all the others,
// for (W' - Q) H (W' - Q)^T with the damped H, and every group's scale to its least squares optimum
// given the codes. No step raises the error, so the result is never worse than GPTQ's.
#pragma once

#include "lib/exec/cpu/gptq_solver.h"

namespace qwb {

// task.sweeps passes over all columns in the order of the work; stops when a pass changes
// nothing. Zero points stay, and so do scales whose groups lie scattered in the order
// (GptqTask::static_groups).
void refine_tile(const GptqTask& task, GptqTile& tile);

}  // namespace qwb
