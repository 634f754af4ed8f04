#include "lib/quantize/solve/awq_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/parallel.h"
#include "lib/exec/calibration.h"
#include "lib/quantize/encode/module_weight.h"

namespace qwb {
namespace {

constexpr int64_t kTileRows = 128;
// Multiply-adds of one candidate on one module above which only some tiles of rows are tried: about
// 50 ms on one core, 4 s for a block of a 7B model with all of its candidates.
constexpr double kMostWork = 8e9;
constexpr int64_t kFewestTiles = 2;
// Candidates that are compared after clipping.
constexpr size_t kFinalists = 12;

struct SearchModule {
  const ModuleInfo* info;
  GridSettings grid;
  int64_t unclipped;  // its first rows
  FloatBuffer weight;
};

// Adds |w| / its group's largest to the columns' sums, and finds their largest magnitudes.
void add_columns(const SearchModule& module, std::vector<double>& sums, std::vector<float>& largest,
                 const Context& context) {
  const int64_t in = module.info->in, group = module.grid.group_size;
  parallel_for(context, module.grid.groups(in), [&](int64_t g) {
    const int64_t begin = g * group, end = std::min(begin + group, in);
    for (int64_t o = 0; o < module.info->out; ++o) {
      const float* row = module.weight.data() + o * in;
      float most = 0;
      for (int64_t i = begin; i < end; ++i) {
        most = std::max(most, std::abs(row[i]));
        largest[i] = std::max(largest[i], std::abs(row[i]));
      }
      for (int64_t i = begin; most > 0 && i < end; ++i) sums[i] += std::abs(row[i]) / most;
    }
  });
}

ScaleStatistics statistics_of(const InputGroupTask& group,
                              const std::vector<SearchModule>& modules) {
  const size_t in = group.scale_of.size(), count = static_cast<size_t>(group.scales);
  std::vector<double> sums(in);
  std::vector<float> largest(in);
  double rows = 0;
  for (const SearchModule& module : modules) {
    add_columns(module, sums, largest, group.context());
    rows += static_cast<double>(module.info->out);
  }
  ScaleStatistics statistics{std::vector<double>(count), std::vector<double>(count),
                             std::vector<float>(count)};
  std::vector<double> sharing(count);
  for (size_t i = 0; i < in; ++i) {
    const auto k = static_cast<size_t>(group.scale_of[i]);
    statistics.magnitude[k] += group.moments->input_magnitude[i];
    statistics.weight[k] += sums[i] / rows;
    statistics.largest_weight[k] = std::max(statistics.largest_weight[k], largest[i]);
    ++sharing[k];
  }
  for (size_t k = 0; k < count; ++k) {
    statistics.magnitude[k] /= std::max(sharing[k], 1.0);
    statistics.weight[k] /= std::max(sharing[k], 1.0);
  }
  return statistics;
}

struct Tile {
  const SearchModule* module;
  int64_t begin, end;
  double stands_for;  // how many tiles of the module
};

std::vector<Tile> tiles_of(const std::vector<SearchModule>& modules, int64_t rows, bool sample) {
  std::vector<Tile> tiles;
  for (const SearchModule& module : modules) {
    const int64_t out = module.info->out, all = ceil_div(out, rows);
    const double work = static_cast<double>(rows) * static_cast<double>(module.info->in) *
                        static_cast<double>(module.info->in);
    const auto affordable = static_cast<int64_t>(std::min(kMostWork / work, 1e9));
    const int64_t tried = sample ? std::clamp(affordable, std::min(kFewestTiles, all), all) : all;
    for (int64_t t = 0; t < tried; ++t) {
      const int64_t begin = (t * all / tried) * rows;
      tiles.push_back({&module, begin, std::min(begin + rows, out),
                       static_cast<double>(all) / static_cast<double>(tried)});
    }
  }
  return tiles;
}

std::vector<float> by_column(const InputGroupTask& group, const std::vector<float>& scales) {
  std::vector<float> columns;
  for (const int64_t k : group.scale_of) columns.push_back(scales[k]);
  return columns;
}

// A sum of forms; those of rounding errors may come out below zero where H is singular.
double sum_of(const std::vector<double>& forms) {
  double sum = 0;
  for (const double form : forms) {
    if (std::isnan(form)) return form;
    sum += std::max(0.0, form);
  }
  return sum;
}

// The squared errors of an input group's outputs for some of its candidates; null is plain
// rounding.
class Trials {
 public:
  Trials(const InputGroupTask& group, const std::vector<const ScaleCandidate*>& candidates)
      : task_(group), ops_(group.moments->executor->calibration()) {
    for (const ScaleCandidate* candidate : candidates) {
      const bool plain = candidate == nullptr;
      columns_.push_back(plain ? std::vector<float>() : by_column(group, candidate->scales));
    }
  }

  std::vector<double> rounded(const std::vector<Tile>& tiles) const {
    return sums(tiles, columns_.size(), [&](const Tile& tile, size_t k) {
      return ops_.rounded_errors(trial(tile, k, task_.moments->hessian));
    });
  }
  // The same after clipping, which is dearer. One candidate's moments are held at a time.
  std::vector<double> clipped(const std::vector<Tile>& tiles) const {
    std::vector<double> all;
    for (size_t k = 0; k < columns_.size(); ++k) {
      const Matrix scaled = scaled_moments(columns_[k]);
      const In hessian = columns_[k].empty() ? task_.moments->hessian : In(scaled);
      all.push_back(sums(tiles, 1, [&](const Tile& tile, size_t) {
                      return ops_.clipped_errors(trial(tile, k, hessian));
                    }).front());
    }
    return all;
  }

 private:
  // Over the tiles in their order, for each of so many kinds. The first must be finite.
  template <typename RowErrors>
  std::vector<double> sums(const std::vector<Tile>& tiles, size_t kinds,
                           const RowErrors& errors) const {
    std::vector<double> each(tiles.size() * kinds);
    parallel_for(task_.context(), static_cast<int64_t>(each.size()), [&](int64_t item) {
      const auto at = static_cast<size_t>(item);
      const Tile& tile = tiles[at / kinds];
      each[at] = sum_of(errors(tile, at % kinds)) * tile.stands_for;
    });
    std::vector<double> sums(kinds);
    for (size_t at = 0; at < each.size(); ++at) sums[at % kinds] += each[at];
    if (!std::isfinite(sums[0])) {
      throw Error(ErrorKind::failed, "the error of the output is not finite",
                  tiles.front().module->info->name, "the moments overflow f32");
    }
    return sums;
  }

  ScaleTrial trial(const Tile& tile, size_t k, In hessian) const {
    const SearchModule& module = *tile.module;
    const int64_t in = module.info->in;
    return {
        .weight = module.weight.span().subspan(static_cast<size_t>(tile.begin * in),
                                               static_cast<size_t>((tile.end - tile.begin) * in)),
        .scales = columns_[k],
        .grid = module.grid,
        .fixed = module.unclipped - tile.begin,
        .hessian = hessian,
        .module = module.info->name};
  }

  // The moments of the inputs after scaling; nothing for all ones.
  Matrix scaled_moments(const std::vector<float>& columns) const {
    if (columns.empty()) return {};
    const In hessian = task_.moments->hessian;
    Matrix scaled =
        task_.moments->executor->allocate(hessian.rows, hessian.columns, MemoryKind::scratch);
    ops_.scale_moments(hessian, columns, scaled);
    return scaled;
  }

  const InputGroupTask& task_;
  const CalibrationOps& ops_;
  std::vector<std::vector<float>>
      columns_;  // by candidate: the scale of each column; empty: all ones
};

// Indices of the smallest values, in the order of the values, earlier ones first among equals; NaN
// is largest.
std::vector<size_t> smallest(const std::vector<double>& values, size_t count) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::isnan(values[b]) ? !std::isnan(values[a]) : values[a] < values[b];
  });
  order.resize(std::min(count, order.size()));
  return order;
}

}  // namespace

InputScales search_scales(const InputGroupTask& group) {
  std::vector<SearchModule> modules;
  for (const InputGroupTask::Module& module : group.modules) {
    modules.push_back({&module.task.info, grid_settings(module.task.info, *module.settings),
                       unclipped_rows(module.task, *module.settings), read_out_in(module.task)});
  }
  const std::vector<ScaleCandidate> candidates =
      scale_candidates(group, statistics_of(group, modules));
  std::vector<const ScaleCandidate*> tried = {nullptr};
  for (const ScaleCandidate& candidate : candidates) tried.push_back(&candidate);
  const std::vector<Tile> sampled = tiles_of(modules, kTileRows, true);
  std::vector<const ScaleCandidate*> finalists = {nullptr};
  for (const size_t k : smallest(Trials(group, tried).rounded(sampled), kFinalists)) {
    if (tried[k] != nullptr) finalists.push_back(tried[k]);
  }
  std::vector<double> errors = Trials(group, finalists).clipped(sampled);
  const ScaleCandidate* best = finalists[smallest(errors, 1).front()];
  const auto whole = [](const Tile& tile) { return tile.stands_for == 1; };
  if (best != nullptr && !std::all_of(sampled.begin(), sampled.end(), whole)) {
    const int64_t rows = group.moments->executor->calibration().batch().trial_rows;
    const std::vector<Tile> all = tiles_of(modules, rows, false);
    errors = Trials(group, {nullptr, best}).clipped(all);
    if (!(errors[1] < errors[0])) best = nullptr;
  }
  if (best == nullptr) return {{}, {{"scaling", "none"}, {"why_not", "no scales lower the error"}}};
  const double error = *std::min_element(errors.begin(), errors.end());
  return {best->scales,
          {{"scaling", best->kind}, {"ratio", best->ratio}, {"stage_error", error / errors[0]}}};
}

}  // namespace qwb
