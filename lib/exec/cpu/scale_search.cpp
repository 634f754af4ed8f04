#include "lib/exec/cpu/scale_search.h"

#include <algorithm>
#include <limits>

#include "lib/exec/cpu/float_lanes.h"
#include "lib/exec/cpu/rounding.h"
#include "lib/exec/range_search.h"

namespace qwb {
namespace {

constexpr int64_t kSlice = 16;  // lanes whose sums stay in registers

// Slices of the candidate grids' arrays, one element per lane.
struct GridCandidate {
  float scale[kRowLanes];
  float inverse[kRowLanes];
  float low[kRowLanes];   // -zero
  float high[kRowLanes];  // max_code - zero
};

// Weighted squared error of each of kSlice lanes. Multiplies by the inverse where the quantizer
// divides: the error differs by a rounding.
void slice_error(const float* values, int64_t count, const float* importance,
                 const GridCandidate& grid, int64_t lane, float* error) {
  float sum[kSlice] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float* row = values + i * kRowLanes + lane;
    const float weight = importance[i];
    for (int64_t l = 0; l < kSlice; ++l) {
      const float clamped = std::min(std::max(row[l] * grid.inverse[lane + l], grid.low[lane + l]),
                                     grid.high[lane + l]);
      const float rounded = round_even(clamped);
      const float difference = row[l] - rounded * grid.scale[lane + l];
      sum[l] += weight * (difference * difference);
    }
  }
  std::copy_n(sum, kSlice, error + lane);
}

void set_candidate(const float* low, const float* high, float factor, const GridSettings& settings,
                   const std::string& module, GridCandidate& grid) {
  for (int64_t r = 0; r < kRowLanes; ++r) {
    const Grid made = make_grid(low[r] * factor, high[r] * factor, settings, module);
    grid.scale[r] = made.scale;
    grid.inverse[r] = std::min(1 / made.scale, std::numeric_limits<float>::max());
    grid.low[r] = static_cast<float>(-made.zero);
    grid.high[r] = static_cast<float>(settings.max_code() - made.zero);
  }
}

}  // namespace

void choose_grids(const float* values, int64_t count, const float* importance, bool search,
                  const GridSettings& settings, const std::string& module, LaneGrids& grids) {
  if (settings.points != GridPoints::integers)
    return choose_float_scales(values, count, importance, search, settings, grids);
  float low[kRowLanes] = {}, high[kRowLanes] = {}, best[kRowLanes], error[kRowLanes];
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t r = 0; r < kRowLanes; ++r) {
      low[r] = std::min(low[r], values[i * kRowLanes + r]);
      high[r] = std::max(high[r], values[i * kRowLanes + r]);
    }
  }
  GridCandidate grid;
  for (int candidate = 0; candidate < (search ? kRangeFactors : 1); ++candidate) {
    set_candidate(low, high, range_factor(candidate), settings, module, grid);
    if (search) {
      for (int64_t lane = 0; lane < kRowLanes; lane += kSlice)
        slice_error(values, count, importance, grid, lane, error);
    }
    for (int64_t r = 0; r < kRowLanes; ++r) {
      if (candidate > 0 && !(error[r] < best[r])) continue;
      best[r] = search ? error[r] : 0;
      grids.scale[r] = grid.scale[r];
      grids.zero[r] = -grid.low[r];
    }
  }
}

}  // namespace qwb
