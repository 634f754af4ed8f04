#include "lib/exec/cpu/clip_rows.h"

#include <algorithm>

#include "lib/base/parallel.h"
#include "lib/exec/cpu/factor.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/rounding.h"
#include "lib/exec/range_search.h"

namespace qwb {
namespace {

Shrink moved(const Shrink& now, const Shrink& move, int pass, int widest) {
  return {moved_end(now.low, move.low, pass, widest), moved_end(now.high, move.high, pass, widest)};
}

// w - Q(w) for one group of a row.
Grid round_group(const float* weight, int64_t count, const Shrink& shrink,
                 const GridSettings& settings, const std::string& module, uint8_t* codes,
                 float* difference) {
  const Extremes range = extremes(weight, count);
  const Grid grid = make_grid(range.low * shrink_factor(shrink.low),
                              range.high * shrink_factor(shrink.high), settings, module);
  round_to_grid(weight, count, grid, settings.max_code(), codes);
  for (int64_t i = 0; i < count; ++i) difference[i] = weight[i] - grid_value(codes[i], grid);
  return grid;
}

// One tile of rows at work: what it costs to change one group is known from P = D H.
class Clipper {
 public:
  Clipper(const ClipTask& task, std::span<const float> weight)
      : weight_(weight.data()),
        columns_(task.hessian.rows),
        rows_(std::ssize(weight) / columns_),
        fixed_(std::clamp<int64_t>(task.fixed, 0, rows_)),
        groups_(task.grid.groups(columns_)),
        hessian_(dense(task.hessian)),
        settings_(task.grid),
        module_(task.module),
        chosen_(static_cast<size_t>(rows_ * groups_)),
        widest_(widest_shrink(weight_, std::ssize(weight))),
        product_(rows_ * columns_) {
    result_.codes.resize(static_cast<size_t>(rows_ * columns_));
    result_.grids.resize(static_cast<size_t>(rows_ * groups_));
    result_.difference = FloatBuffer(rows_ * columns_);
  }

  RoundedRows run(int passes) {
    for (int64_t g = 0; g < groups_; ++g) {
      for (int64_t r = 0; r < rows_; ++r) set(r, g, {});
    }
    const std::vector<double> plain =
        quadratic_forms(result_.difference.data(), rows_, hessian_, columns_);
    if (fixed_ < rows_) {
      sgemm({rows_, columns_, columns_}, {result_.difference.data(), columns_},
            {hessian_, columns_}, {product_.data(), columns_});
      for (int pass = 0; pass < passes; ++pass) {
        for (int64_t g = 0; g < groups_; ++g) improve(g, pass);
      }
    }
    result_.errors = quadratic_forms(result_.difference.data(), rows_, hessian_, columns_);
    keep_the_better(plain);
    result_.norms = quadratic_forms(weight_, rows_, hessian_, columns_);
    for (const Shrink& shrink : chosen_) result_.clipped += shrink == Shrink() ? 0 : 1;
    return std::move(result_);
  }

 private:
  int64_t begin(int64_t g) const { return g * settings_.group_size; }
  int64_t count(int64_t g) const { return std::min(settings_.group_size, columns_ - begin(g)); }
  Shrink& chosen(int64_t r, int64_t g) { return chosen_[r * groups_ + g]; }

  void set(int64_t r, int64_t g, const Shrink& shrink) {
    const int64_t at = r * columns_ + begin(g);
    result_.grids[r * groups_ + g] =
        round_group(weight_ + at, count(g), shrink, settings_, module_, result_.codes.data() + at,
                    result_.difference.data() + at);
    chosen(r, g) = shrink;
  }

  // errors [rows]: d (H_gg d + 2 cross) for candidate differences d [rows, count] of a group.
  void costs(int64_t g, const FloatBuffer& d, const FloatBuffer& cross,
             std::vector<double>& errors) const {
    const int64_t n = count(g);
    FloatBuffer product(rows_ * n);
    sgemm({rows_, n, n}, {d.data(), n}, {hessian_ + begin(g) * columns_ + begin(g), columns_},
          {product.data(), n});
    for (int64_t r = 0; r < rows_; ++r) {
      double sum = 0;
      for (int64_t i = r * n; i < (r + 1) * n; ++i)
        sum += static_cast<double>(d[i]) *
               (static_cast<double>(product[i]) + 2 * static_cast<double>(cross[i]));
      errors[r] = sum;
    }
  }

  void improve(int64_t g, int pass) {
    const int64_t n = count(g), first = begin(g);
    FloatBuffer now(rows_ * n), cross(rows_ * n), d(rows_ * n);
    for (int64_t r = 0; r < rows_; ++r) {
      std::copy_n(result_.difference.data() + r * columns_ + first, n, now.data() + r * n);
      std::copy_n(now.data() + r * n, n, d.data() + r * n);
      std::copy_n(product_.data() + r * columns_ + first, n, cross.data() + r * n);
    }
    // What the other groups lose: P without this group's own part.
    sgemm({rows_, n, n}, {now.data(), n}, {hessian_ + first * columns_ + first, columns_},
          {cross.data(), n, 1}, -1);
    std::vector<double> best(static_cast<size_t>(rows_)), errors(static_cast<size_t>(rows_));
    costs(g, now, cross, best);
    std::vector<Shrink> found(static_cast<size_t>(rows_));
    for (int64_t r = 0; r < rows_; ++r) found[r] = chosen(r, g);
    std::vector<uint8_t> codes(static_cast<size_t>(n));
    for (const Shrink& move : shrink_moves(pass, settings_.symmetric)) {
      for (int64_t r = fixed_; r < rows_; ++r) {
        round_group(weight_ + r * columns_ + first, n, moved(chosen(r, g), move, pass, widest_),
                    settings_, module_, codes.data(), d.data() + r * n);
      }
      costs(g, d, cross, errors);
      for (int64_t r = fixed_; r < rows_; ++r) {
        const auto row = static_cast<size_t>(r);
        if (!(errors[row] < best[row])) continue;
        best[row] = errors[row];
        found[row] = moved(chosen(r, g), move, pass, widest_);
      }
    }
    change(g, found, now);
  }

  // Sets a group's ranges and brings P up to date; now: the differences before.
  void change(int64_t g, const std::vector<Shrink>& found, const FloatBuffer& now) {
    const int64_t n = count(g), first = begin(g);
    bool changed = false;
    for (int64_t r = 0; r < rows_; ++r) {
      const Shrink& shrink = found[r];
      if (!(shrink == chosen(r, g))) {
        set(r, g, shrink);
        changed = true;
      }
      for (int64_t i = 0; i < n; ++i)
        now[r * n + i] = result_.difference[r * columns_ + first + i] - now[r * n + i];
    }
    if (!changed) return;
    sgemm({rows_, columns_, n}, {now.data(), n}, {hessian_ + first * columns_, columns_},
          {product_.data(), columns_, 1});
  }

  // The sums in P are f32: a row may end up worse than it began, by a rounding.
  void keep_the_better(const std::vector<double>& plain) {
    for (int64_t r = 0; r < rows_; ++r) {
      const auto row = static_cast<size_t>(r);
      if (result_.errors[row] <= plain[row]) continue;
      for (int64_t g = 0; g < groups_; ++g) set(r, g, {});
      result_.errors[row] = plain[row];
    }
  }

  const float* weight_;
  int64_t columns_, rows_, fixed_, groups_;
  const float* hessian_;
  GridSettings settings_;
  std::string module_;
  std::vector<Shrink> chosen_;  // [rows, groups]
  int widest_;
  FloatBuffer product_;  // P = D H [rows, columns]
  RoundedRows result_;
};

}  // namespace

RoundedRows clip_tile(const ClipTask& task, std::span<const float> weight) {
  return Clipper(task, weight).run(task.passes);
}

void clip_rows(const ClipTask& task, std::span<const float> weight, const ClipDone& done,
               Threads threads) {
  const int64_t n = task.hessian.rows;
  parallel_ranges(
      Context{threads, task.stop}, std::ssize(weight) / n, kRowLanes,
      [&](int64_t begin, int64_t end) {
        ClipTask tile = task;
        tile.fixed = task.fixed - begin;
        const auto rows =
            weight.subspan(static_cast<size_t>(begin * n), static_cast<size_t>((end - begin) * n));
        RoundedRows rounded = clip_tile(tile, rows);
        ClippedRows result{begin, end - begin, std::move(rounded.codes), std::move(rounded.grids)};
        result.clipped = rounded.clipped;
        for (size_t r = 0; r < rounded.errors.size(); ++r) {
          // A form of rounding errors may come out below zero where H is singular.
          result.outputs.error += std::max(0.0, rounded.errors[r]);
          result.outputs.norm += std::max(0.0, rounded.norms[r]);
        }
        for (size_t k = 0; k < rows.size(); ++k)
          result.weights.add(rows[k], rows[k] - rounded.difference[static_cast<int64_t>(k)]);
        done(result);
      });
}

std::vector<double> rounded_errors(const ScaleTrial& trial) {
  const int64_t n = trial.hessian.rows, rows = std::ssize(trial.weight) / n;
  const FloatBuffer difference(rows * n);
  for (int64_t r = 0; r < rows; ++r) {
    rounding_difference(trial.weight.data() + r * n, n,
                        trial.scales.empty() ? nullptr : trial.scales.data(), trial.grid,
                        trial.module, difference.data() + r * n);
  }
  return quadratic_forms(difference.data(), rows, dense(trial.hessian), n);
}

std::vector<double> clipped_errors(const ScaleTrial& trial) {
  const int64_t n = trial.hessian.rows;
  const FloatBuffer weight(std::ssize(trial.weight));
  std::copy(trial.weight.begin(), trial.weight.end(), weight.data());
  for (int64_t i = 0; !trial.scales.empty() && i < weight.size(); ++i)
    weight[i] *= trial.scales[i % n];
  return clip_tile({trial.grid, trial.fixed, 1, trial.hessian, trial.module}, weight.span()).errors;
}

}  // namespace qwb
