// AWQ's rounding and clipping (lib/exec/cpu/clip_rows.h) on a GPU: a group of all rows at a time.
#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "lib/base/parallel.h"
#include "lib/exec/cuda/calibration.h"
#include "lib/exec/range_search.h"

namespace qwb {
namespace {

// By row; rows of one tile share it.
std::vector<int> widest_of(std::span<const float> weight, int64_t columns, int64_t tile) {
  const int64_t rows = std::ssize(weight) / columns;
  std::vector<int> widest(static_cast<size_t>(rows));
  for (int64_t begin = 0; begin < rows; begin += tile) {
    const int64_t end = std::min(rows, begin + tile);
    std::fill(widest.begin() + begin, widest.begin() + end,
              widest_shrink(weight.data() + begin * columns, (end - begin) * columns));
  }
  return widest;
}

class ClipWork {
 public:
  ClipWork(const CudaExecutor& executor, const ClipTask& task, Matrix weight,
           const std::vector<int>& widest)
      : executor_(executor),
        task_(task),
        n_(task.hessian.rows),
        rows_(weight.rows()),
        groups_(task.grid.groups(n_)),
        weight_(std::move(weight)),
        product_(executor.allocate(rows_, n_, MemoryKind::scratch)),
        difference_(executor.allocate(rows_, n_, MemoryKind::scratch)),
        codes_(executor, rows_ * n_),
        scale_(executor, rows_ * groups_),
        zero_(executor, rows_ * groups_),
        chosen_low_(executor, rows_ * groups_),
        chosen_high_(executor, rows_ * groups_),
        widest_(executor, std::span<const int>(widest)),
        overflow_(executor, 1) {
    overflow_.clear();
    work_ = {rows_,
             n_,
             groups_,
             weight_.view().data,
             codes_.data(),
             scale_.data(),
             zero_.data(),
             difference_.view().data,
             {chosen_low_.data(), chosen_high_.data()},
             widest_.data(),
             std::clamp<int64_t>(task.fixed, 0, rows_),
             grid_shape(task.grid),
             overflow_.data()};
  }

  void run() {
    set_plain(nullptr, nullptr);
    const std::vector<double> plain = forms(difference_);
    if (work_.fixed < rows_ && task_.passes > 0) {
      cuda_multiply(executor_, difference_, task_.hessian, product_, {.down = true});
      for (int pass = 0; pass < task_.passes; ++pass) {
        for (int64_t g = 0; g < groups_; ++g) improve(g, pass);
      }
    }
    errors = forms(difference_);
    keep_the_better(plain);
    check_scales(overflow_, task_.grid, task_.module);
  }

  // From the rows as they are now.
  void download() {
    norms = forms(weight_);
    codes = codes_.download();
    scale = scale_.download(), zero = zero_.download();
    low = chosen_low_.download(), high = chosen_high_.download();
    const OnGpu<double> sums(executor_, 3 * rows_);
    call(calls().row_sums, executor_.dense(In(weight_)),
         static_cast<const float*>(weight_.view().data),
         static_cast<const float*>(difference_.view().data), static_cast<const double*>(nullptr),
         static_cast<const double*>(nullptr), sums.data());
    weights = sums.download();
  }

  ClippedRows rows(int64_t first, int64_t begin, int64_t end) const {
    ClippedRows made{first + begin, end - begin, {}, {}};
    made.codes.assign(codes.begin() + begin * n_, codes.begin() + end * n_);
    for (int64_t k = begin * groups_; k < end * groups_; ++k) {
      made.grids.push_back({scale[k], static_cast<int>(zero[k])});
      made.clipped += low[k] != 0 || high[k] != 0 ? 1 : 0;
    }
    for (int64_t r = begin; r < end; ++r) {
      // A form of rounding errors may come out below zero where H is singular.
      made.outputs.error += std::max(0.0, errors[r]);
      made.outputs.norm += std::max(0.0, norms[r]);
      made.weights.add(ErrorSum{weights[3 * r], weights[3 * r + 1]});
    }
    return made;
  }

  std::vector<double> errors, norms, weights;
  std::vector<unsigned char> codes;
  std::vector<float> scale, zero;
  std::vector<int> low, high;

 private:
  const cuda::CalibrationFunctions& calls() const { return *executor_.functions().calibration; }
  template <class Call, class... Operands>
  void call(Call one, const Operands&... operands) const {
    executor_.run("clipping", one, operands...);
  }

  std::vector<double> forms(In x) const {
    const OnGpu<double> sums(executor_, rows_);
    sums.clear();
    cuda_forms(executor_, x, task_.hessian, sums.data());
    return sums.download();
  }
  void set_plain(const int* lows, const int* highs) const {
    for (int64_t g = 0; g < groups_; ++g) call(calls().clip_set, work_, g, lows, highs);
  }

  void improve(int64_t g, int pass) const {
    task_.stop.check();
    const int64_t first = g * task_.grid.group_size,
                  count = std::min(task_.grid.group_size, n_ - first);
    const Matrix candidate = executor_.allocate(rows_, count, MemoryKind::scratch),
                 cross = executor_.allocate(rows_, count, MemoryKind::scratch),
                 product = executor_.allocate(rows_, count, MemoryKind::scratch);
    const OnGpu<double> best(executor_, rows_);
    const OnGpu<int> found_low(executor_, rows_), found_high(executor_, rows_);
    const cuda::ClipGroup group = {g,
                                   first,
                                   count,
                                   candidate.view().data,
                                   cross.view().data,
                                   product.view().data,
                                   best.data(),
                                   {found_low.data(), found_high.data()}};
    const In own = task_.hessian.row_range(first, count).column_range(first, count);
    if (count <= kFactorBlock) {
      const cuda::ShrinkMoves moves = moves_of(pass);
      call(calls().clip_search, work_, group, executor_.dense(In(product_)), executor_.view(own),
           &moves, pass);
    } else {
      try_each(group, own, candidate, cross, product, pass);
    }
    // The products of what comes later; in the last pass nobody asks for the others.
    const int64_t from = pass + 1 < task_.passes ? 0 : first + count;
    if (from == n_) return;
    cuda_multiply(executor_, candidate,
                  task_.hessian.row_range(first, count).column_range(from, n_ - from),
                  product_.view().column_range(from, n_ - from), {.down = true, .add = true});
  }
  cuda::ShrinkMoves moves_of(int pass) const {
    cuda::ShrinkMoves moves = {};
    for (const Shrink& move : shrink_moves(pass, task_.grid.symmetric)) {
      if (moves.count == cuda::kMostMoves) throw std::logic_error("too many moves of a range");
      moves.low[moves.count] = static_cast<signed char>(move.low);
      moves.high[moves.count++] = static_cast<signed char>(move.high);
    }
    return moves;
  }
  void try_each(const cuda::ClipGroup& group, In own, Out candidate, Out cross, Out product,
                int pass) const {
    call(calls().clip_begin, work_, group, executor_.dense(In(product_)));
    cuda_multiply(executor_, candidate, own, product, {.down = true});
    // What the other groups lose: P without this group's own part.
    calibration_subtract(cross, product);
    call(calls().clip_judge, work_, group, 0, 0, pass, 1);
    for (const Shrink& move : shrink_moves(pass, task_.grid.symmetric)) {
      call(calls().clip_try, work_, group, move.low, move.high, pass);
      cuda_multiply(executor_, candidate, own, product, {.down = true});
      call(calls().clip_judge, work_, group, move.low, move.high, pass, 0);
    }
    call(calls().clip_change, work_, group);
  }
  void calibration_subtract(Out x, In y) const {
    call(calls().subtract, executor_.dense(x), executor_.dense(y));
  }

  // The sums in P are f32: a row may end up worse than it began, by a rounding.
  void keep_the_better(const std::vector<double>& plain) {
    bool any = false;
    std::vector<int> lows = chosen_low_.download(), highs = chosen_high_.download();
    for (int64_t r = 0; r < rows_; ++r) {
      if (errors[r] <= plain[r]) continue;
      errors[r] = plain[r], any = true;
      std::fill_n(lows.begin() + r * groups_, groups_, 0);
      std::fill_n(highs.begin() + r * groups_, groups_, 0);
    }
    if (!any) return;
    std::vector<int> low_of_group(static_cast<size_t>(rows_)), high_of_group(low_of_group);
    for (int64_t g = 0; g < groups_; ++g) {
      for (int64_t r = 0; r < rows_; ++r) {
        low_of_group[r] = lows[r * groups_ + g];
        high_of_group[r] = highs[r * groups_ + g];
      }
      const OnGpu<int> low_there(executor_, std::span<const int>(low_of_group)),
          high_there(executor_, std::span<const int>(high_of_group));
      call(calls().clip_set, work_, g, static_cast<const int*>(low_there.data()),
           static_cast<const int*>(high_there.data()));
    }
  }

  const CudaExecutor& executor_;
  const ClipTask& task_;
  int64_t n_, rows_, groups_;
  Matrix weight_, product_, difference_;  // product: P = D H
  OnGpu<unsigned char> codes_;
  OnGpu<float> scale_, zero_;
  OnGpu<int> chosen_low_, chosen_high_, widest_;
  OnGpu<uint32_t> overflow_;
  cuda::ClipRows work_ = {};
};

Matrix uploaded_rows(const CudaExecutor& executor, std::span<const float> weight, int64_t columns) {
  Matrix there = executor.allocate(std::ssize(weight) / columns, columns, MemoryKind::scratch);
  executor.copy(In(weight.data(), there.rows(), columns), there);
  return there;
}

}  // namespace

void cuda_clip_rows(const CudaExecutor& executor, const ClipTask& task,
                    std::span<const float> weight, const ClipDone& done) {
  const int64_t n = task.hessian.rows, all = std::ssize(weight) / n,
                together = cuda_rows_together(n);
  for (int64_t first = 0; first < all; first += together) {
    const int64_t count = std::min(together, all - first);
    const auto rows =
        weight.subspan(static_cast<size_t>(first * n), static_cast<size_t>(count * n));
    ClipTask part = task;
    part.fixed = task.fixed - first;
    ClipWork work(executor, part, uploaded_rows(executor, rows, n), widest_of(rows, n, kRowLanes));
    work.run();
    work.download();
    parallel_ranges(Context{executor.threads(), task.stop}, count, kRowLanes,
                    [&](int64_t begin, int64_t end) { done(work.rows(first, begin, end)); });
  }
}

std::vector<double> cuda_rounded_errors(const CudaExecutor& executor, const ScaleTrial& trial) {
  const int64_t n = trial.hessian.rows;
  const Matrix weight = uploaded_rows(executor, trial.weight, n),
               difference = executor.allocate(weight.rows(), n, MemoryKind::scratch);
  const OnGpu<float> scales(executor, trial.scales);
  const OnGpu<uint32_t> overflow(executor, 1);
  const OnGpu<double> sums(executor, weight.rows());
  overflow.clear(), sums.clear();
  executor.run("rounding", executor.functions().calibration->rounded_difference,
               executor.dense(In(weight)),
               static_cast<const float*>(trial.scales.empty() ? nullptr : scales.data()),
               grid_shape(trial.grid), executor.dense(Out(difference)), overflow.data());
  cuda_forms(executor, difference, trial.hessian, sums.data());
  check_scales(overflow, trial.grid, trial.module);
  return sums.download();
}

std::vector<double> cuda_clipped_errors(const CudaExecutor& executor, const ScaleTrial& trial) {
  const int64_t n = trial.hessian.rows;
  std::vector<float> scaled(trial.weight.size());
  parallel_ranges(Context{executor.threads()}, std::ssize(scaled) / n, kRowLanes,
                  [&](int64_t begin, int64_t end) {
                    for (int64_t r = begin; r < end; ++r) {
                      for (int64_t c = 0; c < n; ++c)
                        scaled[r * n + c] = trial.weight[r * n + c] *
                                            (trial.scales.empty() ? 1.0f : trial.scales[c]);
                    }
                  });
  const ClipTask task{trial.grid, trial.fixed, 1, trial.hessian, trial.module};
  const int64_t together = CalibrationBatch().trial_rows;  // as where the rows are few
  ClipWork work(executor, task, uploaded_rows(executor, scaled, n), widest_of(scaled, n, together));
  work.run();
  return work.errors;
}

}  // namespace qwb
