#include "lib/exec/cpu/gptq_solver.h"

#include <algorithm>
#include <cmath>

#include "lib/exec/cpu/float_lanes.h"
#include "lib/exec/cpu/gptq_refine.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/rounding.h"

namespace qwb {
namespace {

constexpr int64_t kSegment =
    32;  // columns after which the rest of the block is brought up to date by a matrix product

// GPTQ on one tile.
class TileSolver {
 public:
  TileSolver(const GptqTask& task, GptqTile& tile)
      : task_(task),
        factor_(task.factor),
        columns_(tile.columns),
        weight_(tile.aim),
        target_(columns_ * kRowLanes),
        difference_(tile.difference),
        codes_(tile.codes),
        grids_(tile.grids) {}

  void run();

 private:
  int64_t group_of(int64_t position) const { return task_.order[position] / task_.grid.group_size; }
  bool starts_group(int64_t position) const {
    return !task_.static_groups && task_.scales.empty() &&
           (position == 0 || group_of(position) != group_of(position - 1));
  }
  int64_t group_end(int64_t position) const;
  // Scales of eight bits are few: each is tried with the column loop itself.
  bool tries_scales() const {
    return task_.scale_search && task_.grid.points != GridPoints::integers &&
           dtype_size(task_.grid.scale_dtype) == 1;
  }
  void fix_all_grids();
  void set_target(int64_t block);
  void start_group(int64_t position, int64_t block_end);
  void solve_block(int64_t block);
  void solve_segment(int64_t block, int64_t begin, int64_t end);
  void try_scales(int64_t block, int64_t begin, int64_t end);
  void round_column(int64_t position, float pivot, float* error);

  const GptqTask& task_;
  HostFactor factor_;
  int64_t columns_;
  const FloatBuffer& weight_;
  FloatBuffer target_;       // C: what the columns should be, given the finished ones
  FloatBuffer& difference_;  // D: W - Q of the finished columns, W - C of the others as far as they
                             // were needed
  std::vector<uint8_t>& codes_;
  std::vector<LaneGrids>& grids_;
  float errors_[kFactorBlock * kRowLanes] = {};  // of the block's finished columns: (C - Q) / U_jj
};

void TileSolver::run() {
  if (task_.static_groups && task_.scales.empty()) fix_all_grids();
  for (int64_t block = 0; block < factor_.blocks(); ++block) solve_block(block);
}

int64_t TileSolver::group_end(int64_t position) const {
  int64_t end = position + 1;
  while (end < columns_ && group_of(end) == group_of(position)) ++end;
  return end;
}

// Grids from the original weights, for the order that mixes groups.
void TileSolver::fix_all_grids() {
  std::vector<int64_t> position_of(static_cast<size_t>(columns_));
  for (int64_t p = 0; p < columns_; ++p) position_of[task_.order[p]] = p;
  const int64_t size = task_.grid.group_size;
  FloatBuffer values(size * kRowLanes);
  std::vector<float> importance(static_cast<size_t>(size));
  for (int64_t begin = 0, g = 0; begin < columns_; begin += size, ++g) {
    const int64_t count = std::min(size, columns_ - begin);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = position_of[begin + i];
      std::copy_n(weight_.data() + position * kRowLanes, kRowLanes, values.data() + i * kRowLanes);
      importance[i] = task_.importance[position];
    }
    choose_grids(values.data(), count, importance.data(), task_.scale_search, task_.grid,
                 task_.module, grids_[g]);
  }
}

// C_b = W_b + D[:, before] R[before, b] U_b for the columns of a block, and D_b = W_b - C_b.
void TileSolver::set_target(int64_t block) {
  const int64_t begin = block * kFactorBlock, length = std::min(kFactorBlock, columns_ - begin);
  float* target = target_.data() + begin * kRowLanes;
  const float* weight = weight_.data() + begin * kRowLanes;
  std::copy_n(weight, length * kRowLanes, target);
  if (begin > 0) {
    float carried[kFactorBlock * kRowLanes];
    sgemm({length, kRowLanes, begin}, {factor_.upper + begin, columns_, true},
          {difference_.data(), kRowLanes}, {carried, kRowLanes});
    sgemm({length, kRowLanes, length}, {factor_.inverse(block), kFactorBlock, true},
          {carried, kRowLanes}, {target, kRowLanes, 1});
  }
  float* difference = difference_.data() + begin * kRowLanes;
  for (int64_t k = 0; k < length * kRowLanes; ++k) difference[k] = weight[k] - target[k];
}

// The grid of the group that starts at `position`, from the weights as they are compensated now.
// The current block's are up to date; those of a longer group in later blocks follow from the
// assumption that the columns in between reach their targets.
void TileSolver::start_group(int64_t position, int64_t block_end) {
  const int64_t end = group_end(position);
  if (end > block_end) {
    for (int64_t k = position * kRowLanes; k < block_end * kRowLanes; ++k)
      difference_[k] = weight_[k] - target_[k];
    for (int64_t block = block_end / kFactorBlock; block * kFactorBlock < end; ++block)
      set_target(block);
  }
  choose_grids(target_.data() + position * kRowLanes, end - position,
               task_.importance.data() + position, task_.scale_search, task_.grid, task_.module,
               grids_[group_of(position)]);
}

void TileSolver::solve_block(int64_t block) {
  const int64_t block_begin = block * kFactorBlock,
                block_end = std::min(columns_, block_begin + kFactorBlock);
  const float* inverse = factor_.inverse(block);
  set_target(block);
  for (int64_t begin = block_begin; begin < block_end;) {
    if (starts_group(begin)) start_group(begin, block_end);
    int64_t end = std::min(block_end, begin + kSegment);
    for (int64_t p = begin + 1; p < end; ++p) {
      if (starts_group(p)) end = p;
    }
    if (tries_scales() && starts_group(begin) && end == group_end(begin))
      try_scales(block, begin, end);
    solve_segment(block, begin, end);
    // The rest of the block takes up the errors of this segment.
    const int64_t from = begin - block_begin, to = end - block_begin;
    sgemm({block_end - end, kRowLanes, end - begin},
          {inverse + from * kFactorBlock + to, kFactorBlock, true},
          {errors_ + from * kRowLanes, kRowLanes}, {target_.data() + end * kRowLanes, kRowLanes, 1},
          -1);
    begin = end;
  }
}

// GPTQ's column loop over [begin, end): each column first takes up the errors of the segment's
// earlier ones.
void TileSolver::solve_segment(int64_t block, int64_t begin, int64_t end) {
  const float* inverse = factor_.inverse(block);
  const int64_t origin = block * kFactorBlock;
  for (int64_t p = begin; p < end; ++p) {
    float* target = target_.data() + p * kRowLanes;
    for (int64_t i = begin; i < p; ++i) {
      const float factor = inverse[(i - origin) * kFactorBlock + (p - origin)];
      const float* error = errors_ + (i - origin) * kRowLanes;
      for (int64_t r = 0; r < kRowLanes; ++r) target[r] -= error[r] * factor;
    }
    round_column(p, inverse[(p - origin) * kFactorBlock + (p - origin)],
                 errors_ + (p - origin) * kRowLanes);
  }
}

// The scales of a group of floats [begin, end): of all candidates those with which the column loop,
// each column taking up the errors of the earlier ones, loses least: the sum of ((C - Q) / U_jj)^2.
void TileSolver::try_scales(int64_t block, int64_t begin, int64_t end) {
  const int64_t count = (end - begin) * kRowLanes, origin = block * kFactorBlock;
  float* target = target_.data() + begin * kRowLanes;
  const std::vector<float> kept(target, target + count);
  LaneGrids& grid = grids_[group_of(begin)];
  float largest[kRowLanes] = {}, chosen[kRowLanes], least[kRowLanes];
  for (int64_t k = 0; k < count; ++k)
    largest[k % kRowLanes] = std::max(largest[k % kRowLanes], std::fabs(kept[k]));
  for (int candidate = 0; candidate < float_scale_candidates(task_.grid); ++candidate) {
    for (int64_t r = 0; r < kRowLanes; ++r)
      grid.scale[r] = float_scale_candidate(largest[r], candidate, task_.grid);
    solve_segment(block, begin, end);
    std::copy(kept.begin(), kept.end(), target);
    float lost[kRowLanes] = {};
    for (int64_t p = begin; p < end; ++p) {
      const float* error = errors_ + (p - origin) * kRowLanes;
      for (int64_t r = 0; r < kRowLanes; ++r) lost[r] += error[r] * error[r];
    }
    for (int64_t r = 0; r < kRowLanes; ++r) {
      if (candidate > 0 && !(lost[r] < least[r])) continue;
      least[r] = lost[r];
      chosen[r] = grid.scale[r];
    }
  }
  std::copy_n(chosen, kRowLanes, grid.scale);
}

void TileSolver::round_column(int64_t position, float pivot, float* error) {
  const LaneGrids& grid = grids_[group_of(position)];
  const auto max_code = static_cast<float>(task_.grid.max_code());
  const float* target = target_.data() + position * kRowLanes;
  const float* weight = weight_.data() + position * kRowLanes;
  float* difference = difference_.data() + position * kRowLanes;
  uint8_t* codes = codes_.data() + position * kRowLanes;
  if (task_.grid.points != GridPoints::integers) {
    float values[kRowLanes];
    round_float_lanes(target, grid.scale, task_.grid.points, values, codes);
    for (int64_t r = 0; r < kRowLanes; ++r) {
      difference[r] = weight[r] - values[r];
      error[r] = (target[r] - values[r]) / pivot;
    }
    return;
  }
  for (int64_t r = 0; r < kRowLanes; ++r) {
    const float clamped =
        std::min(std::max(target[r] / grid.scale[r], -grid.zero[r]), max_code - grid.zero[r]);
    const float rounded = round_even(clamped);
    const float value = rounded * grid.scale[r];
    difference[r] = weight[r] - value;
    error[r] = (target[r] - value) / pivot;
    codes[r] = static_cast<uint8_t>(static_cast<int32_t>(rounded + grid.zero[r]));
  }
}

// tile.aim = W + W D H^-1 or W + (Y - W H) H^-1; dividing by H = R R^T, damped.
void set_aim(const GptqTask& task, const float* weight, int64_t first, int64_t rows,
             GptqTile& tile) {
  const int64_t n = tile.columns;
  const auto transpose = [&](const float* from, float* to) {
    for (int64_t position = 0; position < n; ++position) {
      const float* source = from + task.order[position];
      for (int64_t r = 0; r < kRowLanes; ++r)
        to[position * kRowLanes + r] = r < rows ? source[r * n] : 0.0f;
    }
  };
  transpose(weight, tile.aim.data());
  if (task.drift.empty() && task.wanted.empty()) return;
  FloatBuffer missing(rows * n), solved(n * kRowLanes);
  if (!task.wanted.empty()) {
    std::copy_n(dense(task.wanted) + first * n, rows * n, missing.data());
    sgemm({rows, n, n}, {weight, n}, {dense(task.hessian), n}, {missing.data(), n, 1}, -1);
  } else {
    sgemm({rows, n, n}, {weight, n}, {dense(task.drift), n}, {missing.data(), n});
  }
  transpose(missing.data(), solved.data());
  solve_factored(HostFactor(task.factor), solved.data(), kRowLanes);
  for (int64_t k = 0; k < n * kRowLanes; ++k) tile.aim[k] += task.strength * solved[k];
}

SolvedRows in_checkpoint_order(const GptqTask& task, const GptqTile& tile, int64_t rows) {
  const auto groups = static_cast<int64_t>(tile.grids.size());
  SolvedRows solved(tile.columns, groups);
  for (int64_t position = 0; position < tile.columns; ++position) {
    const int64_t column = task.order[position];
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t from = position * kRowLanes + r, to = r * tile.columns + column;
      solved.codes[to] = tile.codes[from];
      solved.aim[to] = tile.aim[from];
      solved.difference[to] = tile.difference[from];
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      const LaneGrids& grid = tile.grids[g];
      solved.grids[r * groups + g] = {grid.scale[r], static_cast<int>(grid.zero[r])};
    }
  }
  return solved;
}

}  // namespace

GptqTile::GptqTile(int64_t columns_in, int64_t groups)
    : columns(columns_in),
      aim(columns * kRowLanes),
      difference(columns * kRowLanes),
      codes(static_cast<size_t>(columns * kRowLanes)),
      grids(static_cast<size_t>(groups)) {}

SolvedRows::SolvedRows(int64_t columns, int64_t groups)
    : codes(static_cast<size_t>(kRowLanes * columns)),
      grids(static_cast<size_t>(kRowLanes * groups)),
      aim(kRowLanes * columns),
      difference(kRowLanes * columns) {}

SolvedRows solve_rows(const GptqTask& task, const float* weight, int64_t first, int64_t rows) {
  const int64_t columns = task.factor.size();
  GptqTile tile(columns, task.grid.groups(columns));
  set_aim(task, weight, first, rows, tile);
  if (!task.scales.empty()) set_fixed_scales(task.scales, first, rows, tile.grids);
  TileSolver(task, tile).run();
  refine_tile(task, tile);
  return in_checkpoint_order(task, tile, rows);
}

}  // namespace qwb
