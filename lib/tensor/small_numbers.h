// Numbers too small for the type that is to hold them: underflow is refused as overflow is, by one
// measure for every writer.
//
// What counts is the share of a weight's squares that is lost, |W - W'|^2 / |W|^2, taken over what
// the type spoils. A dead channel of 1e-30 beside living ones changes no result and passes; a
// module that would become zeros loses 1.
//
//   Floats: beyond 2^-16 a copy is worse than one in bf16, whose values are off by 2^-9 at most
//   (2^-18).
//   Codes of b bits: a scale near the least number of its type is coarse, if it may be off by more
//   than 2^-b of itself: then the largest value moves by half a step and more, which is as much as
//   rounding ever does. What is lost in groups with such scales may not exceed 8 * 4^-b (at most
//   1/2). Rounding to b bits costs bell-shaped weights a quarter to a half of that, so that the
//   bound is one bit of precision lost.
#pragma once

#include <string>

#include "lib/tensor/dtype.h"

namespace qwb {

// The tolerated share of a weight's squares.
inline constexpr double kToleratedFloatLoss = 0x1p-16;
double tolerated_code_loss(double bits);

// True for a scale, as F16 or BF16 holds it (0 included), that may be off by more than 2^-bits of
// itself.
bool is_coarse_scale(float stored, DType type, double bits);

// Throw `failed`, naming the module: its values are too small for `type`.
void require_floats_kept(double lost, DType type, const std::string& module,
                         const std::string& advice);
void require_codes_kept(double lost, double bits, const std::string& type,
                        const std::string& module, const std::string& advice);

}  // namespace qwb
