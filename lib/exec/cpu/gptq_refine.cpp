#include "lib/exec/cpu/gptq_refine.h"

#include <algorithm>
#include <cmath>

#include "lib/exec/cpu/float_lanes.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/rounding.h"

namespace qwb {
namespace {

class TileRefiner {
 public:
  TileRefiner(const GptqTask& task, GptqTile& tile)
      : task_(task),
        factor_(task.factor),
        tile_(tile),
        columns_(tile.columns),
        gradient_(columns_ * kRowLanes) {}

  // True if anything changed.
  bool sweep();

 private:
  int64_t group_of(int64_t position) const { return task_.order[position] / task_.grid.group_size; }
  // out [end - begin, 64] = H[begin:end, from:to] in[from:to], for one block of rows.
  void multiply(int64_t block, int64_t from, int64_t to, const float* in, float* out) const;
  bool descend(int64_t block);
  bool floats() const { return task_.grid.points != GridPoints::integers; }
  // The value of a code, in scales.
  float step_of(uint8_t code, float zero) const {
    return floats() ? point_value(code, task_.grid.points) : static_cast<float>(code) - zero;
  }
  bool move_column(int64_t position, float* change);
  bool move_float_column(int64_t position, float* change);
  bool refit_group(int64_t begin, int64_t end);
  bool move_scales(const double* slope, const double* curvature, LaneGrids& grid,
                   float* change) const;

  const GptqTask& task_;
  HostFactor factor_;
  GptqTile& tile_;
  int64_t columns_;
  FloatBuffer gradient_;  // H (W' - Q), valid for the block at work
};

// The lower triangle of H stands below the factor, the diagonal blocks stand by themselves; what
// lies above is read transposed.
void TileRefiner::multiply(int64_t block, int64_t from, int64_t to, const float* in,
                           float* out) const {
  const int64_t begin = block * kFactorBlock, length = std::min(kFactorBlock, columns_ - begin),
                end = begin + length;
  const float* h = factor_.upper;
  const int64_t left = std::min(begin, to), right = std::max(end, from);
  const int64_t inside_from = std::max(begin, from), inside_to = std::min(end, to);
  std::fill_n(out, length * kRowLanes, 0.0f);
  if (left > from) {
    sgemm({length, kRowLanes, left - from}, {h + begin * columns_ + from, columns_},
          {in + from * kRowLanes, kRowLanes}, {out, kRowLanes, 1});
  }
  if (inside_to > inside_from) {
    sgemm({length, kRowLanes, inside_to - inside_from},
          {factor_.diagonal + begin * kFactorBlock + (inside_from - begin), kFactorBlock},
          {in + inside_from * kRowLanes, kRowLanes}, {out, kRowLanes, 1});
  }
  if (to > right) {
    sgemm({length, kRowLanes, to - right}, {h + right * columns_ + begin, columns_, true},
          {in + right * kRowLanes, kRowLanes}, {out, kRowLanes, 1});
  }
}

// Moves the codes of one column; change = how far its values moved.
bool TileRefiner::move_column(int64_t position, float* change) {
  if (floats()) return move_float_column(position, change);
  const LaneGrids& grid = tile_.grids[group_of(position)];
  const auto max_code = static_cast<float>(task_.grid.max_code());
  const float pivot = factor_.diagonal[position * kFactorBlock + position % kFactorBlock];
  const float* gradient = gradient_.data() + position * kRowLanes;
  const float* aim = tile_.aim.data() + position * kRowLanes;
  float* difference = tile_.difference.data() + position * kRowLanes;
  uint8_t* codes = tile_.codes.data() + position * kRowLanes;
  float largest = 0;
  for (int64_t r = 0; r < kRowLanes; ++r) {
    const float value = aim[r] - difference[r];
    const float best = value + gradient[r] / pivot;
    const float clamped =
        std::min(std::max(best / grid.scale[r], -grid.zero[r]), max_code - grid.zero[r]);
    const float rounded = round_even(clamped);
    const auto code = static_cast<uint8_t>(static_cast<int32_t>(rounded + grid.zero[r]));
    const float moved = code == codes[r] ? 0.0f : rounded * grid.scale[r] - value;
    codes[r] = code;
    difference[r] -= moved;
    change[r] = moved;
    largest = std::max(largest, std::fabs(moved));
  }
  return largest > 0;
}

// The same on a grid of floats.
bool TileRefiner::move_float_column(int64_t position, float* change) {
  const LaneGrids& grid = tile_.grids[group_of(position)];
  const float pivot = factor_.diagonal[position * kFactorBlock + position % kFactorBlock];
  const float* gradient = gradient_.data() + position * kRowLanes;
  const float* aim = tile_.aim.data() + position * kRowLanes;
  float* difference = tile_.difference.data() + position * kRowLanes;
  uint8_t* codes = tile_.codes.data() + position * kRowLanes;
  float best[kRowLanes], values[kRowLanes], largest = 0;
  uint8_t before[kRowLanes];
  std::copy_n(codes, kRowLanes, before);
  for (int64_t r = 0; r < kRowLanes; ++r) best[r] = aim[r] - difference[r] + gradient[r] / pivot;
  round_float_lanes(best, grid.scale, task_.grid.points, values, codes);
  for (int64_t r = 0; r < kRowLanes; ++r) {
    const float value = aim[r] - difference[r];
    change[r] = codes[r] == before[r] ? 0.0f : values[r] - value;
    difference[r] -= change[r];
    largest = std::max(largest, std::fabs(change[r]));
  }
  return largest > 0;
}

bool TileRefiner::descend(int64_t block) {
  const int64_t begin = block * kFactorBlock, end = std::min(columns_, begin + kFactorBlock);
  multiply(block, 0, columns_, tile_.difference.data(), gradient_.data() + begin * kRowLanes);
  bool changed = false;
  float change[kRowLanes];
  for (int64_t position = begin; position < end; ++position) {
    if (!move_column(position, change)) continue;
    changed = true;
    const float* h = factor_.diagonal + position * kFactorBlock;
    for (int64_t i = begin; i < end; ++i) {
      const float factor = h[i - begin];
      float* gradient = gradient_.data() + i * kRowLanes;
      for (int64_t r = 0; r < kRowLanes; ++r) gradient[r] -= factor * change[r];
    }
  }
  return changed;
}

// Each row's scale to the lowest point of its parabola; change = how far it moved.
bool TileRefiner::move_scales(const double* slope, const double* curvature, LaneGrids& grid,
                              float* change) const {
  bool changed = false;
  for (int64_t r = 0; r < kRowLanes; ++r) {
    if (!(curvature[r] > 0)) continue;
    const auto wanted = static_cast<float>(grid.scale[r] + slope[r] / curvature[r]);
    if (!(wanted > 0)) continue;
    const float scale = floats() ? nearest_scale(wanted, task_.grid)
                                 : stored_scale(wanted, task_.grid.scale_dtype, task_.module);
    const double step = static_cast<double>(scale) - grid.scale[r];
    if (!(step * (step * curvature[r] - 2 * slope[r]) < 0))
      continue;  // rounding the scale took the gain
    change[r] = static_cast<float>(step);
    grid.scale[r] = scale;
    changed = true;
  }
  return changed;
}

// With codes c (zero point taken off) and Q = s c: the error is least at s + c H (W' - Q) / c H c.
bool TileRefiner::refit_group(int64_t begin, int64_t end) {
  LaneGrids& grid = tile_.grids[group_of(begin)];
  const int64_t first = begin / kFactorBlock, last = (end - 1) / kFactorBlock;
  FloatBuffer steps((last + 1) * kFactorBlock * kRowLanes),
      product((last - first + 1) * kFactorBlock * kRowLanes);
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t r = 0; r < kRowLanes; ++r)
      steps[p * kRowLanes + r] = step_of(tile_.codes[p * kRowLanes + r], grid.zero[r]);
  }
  double slope[kRowLanes] = {}, curvature[kRowLanes] = {};
  for (int64_t block = first; block <= last; ++block) {
    float* h_steps = product.data() + (block - first) * kFactorBlock * kRowLanes;
    multiply(block, begin, end, steps.data(), h_steps);
    // Inside one block the gradient is up to date.
    if (first != last)
      multiply(block, 0, columns_, tile_.difference.data(),
               gradient_.data() + block * kFactorBlock * kRowLanes);
    for (int64_t p = std::max(begin, block * kFactorBlock);
         p < std::min(end, (block + 1) * kFactorBlock); ++p) {
      for (int64_t r = 0; r < kRowLanes; ++r) {
        slope[r] += static_cast<double>(steps[p * kRowLanes + r]) * gradient_[p * kRowLanes + r];
        curvature[r] += static_cast<double>(steps[p * kRowLanes + r]) *
                        h_steps[(p - block * kFactorBlock) * kRowLanes + r];
      }
    }
  }
  float change[kRowLanes] = {};
  const bool changed = move_scales(slope, curvature, grid, change);
  for (int64_t p = begin; changed && p < end; ++p) {
    for (int64_t r = 0; r < kRowLanes; ++r) {
      // Not by adding the change: the difference must belong to the scale as it is stored.
      const float value = steps[p * kRowLanes + r] * grid.scale[r];
      if (change[r] != 0)
        tile_.difference[p * kRowLanes + r] = tile_.aim[p * kRowLanes + r] - value;
    }
  }
  if (!changed) return false;
  if (first != last) {
    multiply(last, 0, columns_, tile_.difference.data(),
             gradient_.data() + last * kFactorBlock * kRowLanes);
    return true;
  }
  for (int64_t p = first * kFactorBlock; p < std::min(columns_, (first + 1) * kFactorBlock); ++p) {
    for (int64_t r = 0; r < kRowLanes; ++r)
      gradient_[p * kRowLanes + r] -=
          change[r] * product[(p - first * kFactorBlock) * kRowLanes + r];
  }
  return true;
}

bool TileRefiner::sweep() {
  bool changed = false;
  int64_t group_begin = 0;
  const bool whole_groups = !task_.static_groups && task_.scales.empty();
  for (int64_t block = 0; block < factor_.blocks(); ++block) {
    changed = descend(block) || changed;
    const int64_t end = std::min(columns_, (block + 1) * kFactorBlock);
    // The groups that end in this block.
    for (int64_t p = std::max(group_begin + 1, block * kFactorBlock); whole_groups && p <= end;
         ++p) {
      if (p < columns_ && group_of(p) == group_of(group_begin)) continue;
      changed = refit_group(group_begin, p) || changed;
      group_begin = p;
      if (p == columns_) break;
    }
  }
  return changed;
}

}  // namespace

void refine_tile(const GptqTask& task, GptqTile& tile) {
  TileRefiner refiner(task, tile);
  for (int sweep = 0; sweep < task.sweeps; ++sweep) {
    if (!refiner.sweep()) break;
  }
}

}  // namespace qwb
