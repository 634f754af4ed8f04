// Repair adapters: low-rank corrections of what quantizing a module did, weighted by its inputs,
// from the moments that calibration has anyway. Not trained.
//
// Wanted is the B A of rank r with the least |(T - Q - B A) X|, X being the inputs and T what the
// codes aim at (W, or where GPTQ follows the original model W + D H^-1 and so on, gptq.md). For any
// square root R of H = X X^T (here GPTQ's damped upper factor, H = R R^T) that is
// |(T - Q - B A) R|: with the singular values (T - Q) R = U S V^T, cut off at r,
//   B = U S^1/2,  A = S^1/2 V^T R^-1.
// The objective is EoRA's (Liu et al. 2024, arXiv 2410.21271), whose square root is by
// eigenvectors.
#pragma once

#include <cstdint>

#include "lib/adapt/adapter.h"
#include "lib/quantize/method.h"

namespace qwb {

struct Repaired {
  AdapterModule module;
  // Of the outputs on the calibration inputs, by the damped H: relative squared distance from the
  // aim, without and with the adapter.
  double error_before = 0, error_after = 0;
};

// After the module was quantized. Needs task.moments. Throws unsupported for methods that scale
// inputs, and for modules whose bias took up a part of the error (a repair would move the mean
// again); `failed` as prepare_moments() does.
Repaired repair_module(const ModuleTask& task, const ModuleResult& result, int64_t rank);

}  // namespace qwb
