// GPTQ on some rows of a module (lib/exec/cpu/gptq_solver.h) on a GPU: all rows at a time, a block
// of columns after the other. Products between blocks are those of multiply.cu.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "lib/base/parallel.h"
#include "lib/exec/cuda/calibration.h"
#include "lib/exec/cuda/gptq_work.h"

namespace qwb {

std::vector<int32_t> GptqColumns::inverse_of(std::span<const int64_t> order) {
  std::vector<int32_t> inverse(order.size());
  for (size_t p = 0; p < order.size(); ++p) inverse[order[p]] = static_cast<int32_t>(p);
  return inverse;
}
std::vector<int32_t> GptqColumns::groups_of(const GptqTask& task) {
  std::vector<int32_t> groups;
  for (const int64_t column : task.order)
    groups.push_back(static_cast<int32_t>(column / task.grid.group_size));
  return groups;
}

GptqColumns::GptqColumns(const CudaExecutor& executor, const GptqTask& task)
    : groups(groups_of(task)),
      inverse(inverse_of(task.order)),
      order_there(executor, std::vector<int32_t>(task.order.begin(), task.order.end())),
      inverse_there(executor, std::span<const int32_t>(inverse)),
      groups_there(executor, std::span<const int32_t>(groups)),
      importance(executor, task.importance) {}

GptqWork::GptqWork(const CudaExecutor& executor, const GptqTask& task, const GptqColumns& columns,
                   std::span<const float> weight, int64_t first)
    : executor_(executor),
      task_(task),
      of_(columns),
      n_(task.factor.size()),
      rows_(std::ssize(weight) / n_),
      first_(first),
      group_count_(task.grid.groups(n_)),
      weight_(matrix()),
      aim_(matrix()),
      target_(matrix()),
      difference_(matrix()),
      carried_(executor.allocate(rows_, kFactorBlock, MemoryKind::scratch)),
      codes_(executor, rows_ * n_),
      scale_(executor, rows_ * group_count_),
      zero_(executor, rows_ * group_count_),
      overflow_(executor, 1) {
  executor.copy(In(weight.data(), rows_, n_), weight_);
  overflow_.clear();
  work_ = {.rows = rows_,
           .columns = n_,
           .groups = group_count_,
           .aim = aim_.view().data,
           .target = target_.view().data,
           .difference = difference_.view().data,
           .codes = codes_.data(),
           .scale = scale_.data(),
           .zero = zero_.data(),
           .group_of = columns.groups_there.data(),
           .importance = columns.importance.data(),
           .grid = grid_shape(task.grid),
           .search = task.scale_search ? 1 : 0,
           .overflow = overflow_.data()};
}

Matrix GptqWork::matrix() const {
  return executor_.allocate(rows_, n_, MemoryKind::scratch);
}

void GptqWork::to_positions(In stored, Out by_position) const {
  run(calls().permute, executor_.dense(stored), static_cast<const int32_t*>(of_.order_there.data()),
      executor_.dense(by_position));
}

// W + W D H^-1 or W + (Y - W H) H^-1; dividing by H = R R^T, damped.
void GptqWork::set_aim() {
  to_positions(weight_, aim_);
  if (!follows()) return;
  const Out missing = difference_, moved = target_;
  if (!task_.wanted.empty()) {
    executor_.copy(task_.wanted.row_range(first_, rows_), missing);
    cuda_multiply(executor_, weight_, task_.hessian, missing,
                  {.down = true, .add = true, .factor = -1});
  } else {
    cuda_multiply(executor_, weight_, task_.drift, missing, {.down = true});
  }
  to_positions(missing, moved);
  cuda_solve(executor_, task_.factor, moved);
  executor_.scale(moved, task_.strength);
  executor_.add(aim_, moved);
}

// Grids from the weights as they are, for the order that mixes groups.
void GptqWork::fix_all_grids() {
  const int64_t size = task_.grid.group_size;
  for (int64_t g = 0; g < group_count_; ++g) {
    const int64_t count = std::min(size, n_ - g * size);
    run(calls().choose_grids, work_, static_cast<const float*>(work_.aim),
        static_cast<const int32_t*>(of_.inverse_there.data() + g * size), int64_t{0}, count, g);
  }
}

// C_b = W_b + D[:, before] R[before, b] U_b, and D_b = W_b - C_b.
void GptqWork::set_target(int64_t block) {
  const int64_t begin = block * kFactorBlock, length = std::min(kFactorBlock, n_ - begin);
  const Out target = target_.view().column_range(begin, length);
  executor_.copy(aim_.view().column_range(begin, length), target);
  if (begin > 0) {
    const Out carried = carried_.view().as(rows_, length);
    const In upper = task_.factor.upper;
    cuda_multiply(executor_, difference_.view().column_range(0, begin),
                  upper.row_range(0, begin).column_range(begin, length), carried, {.down = true});
    const In inverse = In(task_.factor.inverses).row_range(begin, length).column_range(0, length);
    cuda_multiply(executor_, carried, inverse, target, {.down = true, .add = true});
  }
  run(calls().set_difference, work_, begin, length);
}

int64_t GptqWork::group_end(int64_t position) const {
  int64_t end = position + 1;
  while (end < n_ && of_.groups[end] == of_.groups[position]) ++end;
  return end;
}

// The grid of the group that starts here, from the weights as they are compensated now. Those of a
// longer group in later blocks follow from the assumption that the columns in between reach their
// targets.
void GptqWork::start_group(int64_t position, int64_t block_end) {
  const int64_t end = group_end(position);
  if (end > block_end) {
    run(calls().set_difference, work_, position, block_end - position);
    for (int64_t block = block_end / kFactorBlock; block * kFactorBlock < end; ++block)
      set_target(block);
  }
  run(calls().choose_grids, work_, static_cast<const float*>(work_.target),
      static_cast<const int32_t*>(nullptr), position, end - position,
      int64_t{of_.groups[position]});
}

void GptqWork::solve_block(int64_t block) {
  const int64_t block_end = std::min(n_, (block + 1) * kFactorBlock);
  set_target(block);
  for (int64_t begin = block * kFactorBlock; begin < block_end;) {
    if (starts_group(begin)) start_group(begin, block_end);
    int64_t end = begin + 1;
    while (end < block_end && !starts_group(end)) ++end;
    run(calls().solve_columns, work_, block, begin, end,
        static_cast<const float*>(task_.factor.inverses.data));
    begin = end;
  }
}

void GptqWork::solve() {
  set_aim();
  if (task_.static_groups) fix_all_grids();
  for (int64_t block = 0; block < ceil_div(n_, kFactorBlock); ++block) {
    task_.stop.check();
    solve_block(block);
  }
  if (task_.sweeps > 0) refine();
}

namespace {

// The results of rows as GptqRows has them, columns as stored.
struct SolvedOnGpu {
  SolvedOnGpu(const CudaExecutor& executor, int64_t rows, int64_t columns, int64_t groups)
      : codes(executor, rows * columns),
        scale(executor, rows * groups),
        zero(executor, rows * groups),
        difference(executor.allocate(rows, columns, MemoryKind::scratch)) {}
  cuda::RoundedRow row() const {
    return {codes.data(), scale.data(), zero.data(), difference.view().data};
  }
  OnGpu<unsigned char> codes;
  OnGpu<float> scale, zero;
  Matrix difference;
};

}  // namespace

// Measures rows against plain rounding; a row that rounding serves better is rounded.
void GptqWork::judge() {
  const auto* inverse = static_cast<const int32_t*>(of_.inverse_there.data());
  // The targets are not needed any more.
  run(calls().permute, executor_.dense(In(difference_)), inverse, executor_.dense(Out(target_)));
  Matrix stored_aim;
  if (follows()) {
    stored_aim = matrix();
    run(calls().permute, executor_.dense(In(aim_)), inverse, executor_.dense(Out(stored_aim)));
  }
  const In aim = follows() ? In(stored_aim) : In(weight_);
  const OnGpu<unsigned char> codes(executor_, rows_ * n_);
  run(calls().permute_codes, rows_, n_, static_cast<const unsigned char*>(codes_.data()), inverse,
      codes.data());
  const SolvedOnGpu plain(executor_, rows_, n_, group_count_);
  run(calls().round_plainly, executor_.dense(In(weight_)), aim.data, work_.grid, plain.row(),
      overflow_.data());
  const OnGpu<double> forms(executor_, 3 * rows_);
  forms.clear();
  cuda_forms(executor_, target_, task_.hessian, forms.data());
  cuda_forms(executor_, plain.difference, task_.hessian, forms.data() + rows_);
  cuda_forms(executor_, aim, task_.hessian, forms.data() + 2 * rows_);
  check_scales(overflow_, task_.grid, task_.module);
  forms_ = forms.download();
  marks_.resize(static_cast<size_t>(rows_));
  for (int64_t r = 0; r < rows_; ++r) marks_[r] = form(1, r) < form(0, r) ? 1 : 0;
  const OnGpu<unsigned char> marks(executor_, std::span<const unsigned char>(marks_));
  const cuda::RoundedRow made = {codes.data(), scale_.data(), zero_.data(), target_.view().data};
  run(calls().take_rows, rows_, n_, group_count_, static_cast<const unsigned char*>(marks.data()),
      plain.row(), made);
  sum_rows(aim);
  host_codes_ = codes.download();
  host_scale_ = scale_.download();
  host_zero_ = zero_.download();
}

// A form of rounding errors may come out below zero where H is singular.
double GptqWork::form(int kind, int64_t row) const {
  return std::max(0.0, forms_[kind * rows_ + row]);
}

void GptqWork::sum_rows(In aim) {
  std::optional<OnGpu<double>> of_weight, of_value;
  const GptqTask::Means& means = task_.means;
  if (!means.input.empty()) {
    std::vector<double> whole(means.input.begin(), means.input.end());
    of_value.emplace(executor_, std::span<const double>(whole));
    if (task_.wanted.empty()) {
      for (size_t i = 0; i < whole.size(); ++i)
        whole[i] = static_cast<double>(means.drift[i] + means.input[i]);
      of_weight.emplace(executor_, std::span<const double>(whole));
    }
  }
  const OnGpu<double> sums(executor_, 3 * rows_);
  run(calls().row_sums, executor_.dense(In(weight_)), aim.data,
      static_cast<const float*>(target_.view().data),
      static_cast<const double*>(of_weight ? of_weight->data() : nullptr),
      static_cast<const double*>(of_value ? of_value->data() : nullptr), sums.data());
  sums_ = sums.download();
}

GptqRows GptqWork::rows(int64_t begin, int64_t end) const {
  GptqRows made{first_ + begin, end - begin, {}, {}, {}};
  made.codes.assign(host_codes_.begin() + begin * n_, host_codes_.begin() + end * n_);
  for (int64_t k = begin * group_count_; k < end * group_count_; ++k)
    made.grids.push_back({host_scale_[k], static_cast<int>(host_zero_[k])});
  for (int64_t r = begin; r < end; ++r) {
    made.rounded_rows += marks_[r];
    made.outputs.error += std::min(form(0, r), form(1, r));
    made.rounding.error += form(1, r);
    made.outputs.norm += form(2, r);
    made.weights.add(ErrorSum{sums_[3 * r], sums_[3 * r + 1]});
    if (task_.means.input.empty()) continue;
    const double wanted = task_.wanted.empty() ? 0 : task_.means.wanted[first_ + r];
    made.shift.push_back(static_cast<float>(wanted + sums_[3 * r + 2]));
  }
  made.rounding.norm = made.outputs.norm;
  return made;
}

void cuda_gptq_rows(const CudaExecutor& executor, const GptqTask& task,
                    std::span<const float> weight, const GptqDone& done) {
  const int64_t n = task.factor.size(), all = std::ssize(weight) / n;
  const GptqColumns columns(executor, task);
  const int64_t together = cuda_rows_together(n);
  for (int64_t first = 0; first < all; first += together) {
    const int64_t count = std::min(together, all - first);
    GptqWork work(executor, task, columns,
                  weight.subspan(static_cast<size_t>(first * n), static_cast<size_t>(count * n)),
                  first);
    work.solve();
    work.judge();
    parallel_ranges(Context{executor.threads(), task.stop}, count, kRowLanes,
                    [&](int64_t begin, int64_t end) { done(work.rows(begin, end)); });
  }
}

}  // namespace qwb
