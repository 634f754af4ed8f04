#include "lib/exec/cpu/float_lanes.h"

#include <algorithm>
#include <cmath>

namespace qwb {
namespace {

// Weighted squared error of each lane under its scale.
void float_error(const float* values, int64_t count, const float* importance, const float* scale,
                 const FloatPoints& points, float* error) {
  float inverse[kRowLanes];
  for (int64_t r = 0; r < kRowLanes; ++r) {
    inverse[r] = std::min(1 / scale[r], std::numeric_limits<float>::max());
    error[r] = 0;
  }
  for (int64_t i = 0; i < count; ++i) {
    const float* row = values + i * kRowLanes;
    const float weight = importance[i];
    for (int64_t r = 0; r < kRowLanes; ++r) {
      const float difference = row[r] - nearest_point(row[r] * inverse[r], points) * scale[r];
      error[r] += weight * (difference * difference);
    }
  }
}

}  // namespace

void round_float_lanes(const float* x, const float* scale, GridPoints points, float* values,
                       uint8_t* codes) {
  const FloatPoints& known = float_points(points);
  float nearest[kRowLanes];
  for (int64_t r = 0; r < kRowLanes; ++r) nearest[r] = nearest_point(x[r] / scale[r], known);
  for (int64_t r = 0; r < kRowLanes; ++r) {
    values[r] = nearest[r] * scale[r];
    codes[r] = point_code(nearest[r], known);
  }
}

void choose_float_scales(const float* values, int64_t count, const float* importance, bool search,
                         const GridSettings& settings, LaneGrids& grids) {
  float largest[kRowLanes] = {}, best[kRowLanes], error[kRowLanes], scale[kRowLanes];
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t r = 0; r < kRowLanes; ++r)
      largest[r] = std::max(largest[r], std::fabs(values[i * kRowLanes + r]));
  }
  const int candidates = search ? float_scale_candidates(settings) : 1;
  for (int candidate = 0; candidate < candidates; ++candidate) {
    for (int64_t r = 0; r < kRowLanes; ++r)
      scale[r] = float_scale_candidate(largest[r], candidate, settings);
    if (search) float_error(values, count, importance, scale, float_points(settings.points), error);
    for (int64_t r = 0; r < kRowLanes; ++r) {
      if (candidate > 0 && !(error[r] < best[r])) continue;
      best[r] = search ? error[r] : 0;
      grids.scale[r] = scale[r];
      grids.zero[r] = 0;
    }
  }
}

void set_fixed_scales(std::span<const float> scales, int64_t first, int64_t rows,
                      std::vector<LaneGrids>& grids) {
  const auto groups = static_cast<int64_t>(grids.size());
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t r = 0; r < kRowLanes; ++r) {
      grids[g].scale[r] = r < rows ? scales[(first + r) * groups + g] : 1.0f;
      grids[g].zero[r] = 0;
    }
  }
}

Grid plain_float_grid(const GptqTask& task, int64_t row, int64_t group, const float* values,
                      int64_t count) {
  const int64_t groups = task.grid.groups(task.factor.size());
  if (!task.scales.empty()) return {task.scales[row * groups + group], 0};
  return make_grid(values, count, task.grid, task.module);
}

}  // namespace qwb
