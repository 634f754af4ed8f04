// The search of AWQ (Lin et al. 2023, arXiv 2306.00978) for the scales of one group. Candidates,
// for ratios r = 0, 0.05 .. 0.95, with x the mean magnitude of each input channel and w the mean
// over the rows of |weight| / its group's largest:
//
//   activations   s = x^r               r = 0 leaves the input group alone
//   both          s = x^r / w^(1 - r)   as AutoAWQ and its followers have it ("duo scaling")
//
// divided by sqrt(max s * min s). The one with the smallest squared error of the outputs of all
// modules of the input group on the calibration inputs wins, sum over modules of tr(D H D^T) with D
// = Q(W s) / s - W and H the moments of the inputs: exact, where others sample tokens. All
// candidates are compared by plain rounding, the best few and no scaling at all then with the
// ranges clipped, as the modules will be (CalibrationOps::clip_rows).
#pragma once

#include <vector>

#include "lib/quantize/encode/integer_grid.h"

namespace qwb {

// How many of the module's first rows the settings leave unclipped.
int64_t unclipped_rows(const ModuleTask& task, const Settings& settings);

// One candidate: a scale for each of InputGroupTask::scales.
struct ScaleCandidate {
  const char* kind = "";  // "activations", "both"
  double ratio = 0;
  std::vector<float> scales;
};

// The candidates in the order of the search, without the one that is all ones. Every scale keeps
// what it divides and the weights it multiplies within f16 (0 is exempt), and is such that gain /
// scale is stored without error; candidates that are not finite are left out. magnitude: by scale;
// weight: mean, and largest magnitude, by scale.
struct ScaleStatistics {
  std::vector<double> magnitude, weight;
  std::vector<float> largest_weight;
};
std::vector<ScaleCandidate> scale_candidates(const InputGroupTask& group,
                                             const ScaleStatistics& statistics);

// The best candidate, or nothing if none beats the original channels. Rows of large modules are
// sampled for the search; that the winner lowers the error is then made sure of on all rows. Throws
// failed, naming the module, on NaN or Inf in weights or moments.
InputScales search_scales(const InputGroupTask& group);

}  // namespace qwb
