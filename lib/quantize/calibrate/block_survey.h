// A look at all inputs of a block before any of its modules is quantized.
#pragma once

#include <map>
#include <vector>

#include "lib/quantize/calibrate/block_calibration.h"

namespace qwb {

// The moments of a group's inputs, with their magnitudes.
struct SurveyedGroup {
  Matrix hessian;
  Moments moments;
};
using Survey = std::map<size_t, SurveyedGroup>;  // by the group's place among the block's

// Runs the block with its original weights over some windows of the stream (all, up to 16384
// tokens), which stays as it is, and gathers the moments of these groups. Sums over windows have a
// fixed order. Throws `failed` naming the block if an input is not finite.
Survey survey_block(const Model& model, int64_t index, const ResidualStream& stream,
                    const std::vector<size_t>& groups, const Context& context = {});

// How many of the set's windows a survey looks at.
int64_t surveyed_windows(const CalibrationSet& calibration);

// Bytes that survey_block() holds at the peak.
int64_t survey_memory(const Model& model, const CalibrationSet& calibration);

}  // namespace qwb
