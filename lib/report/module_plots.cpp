#include "lib/report/module_plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "lib/report/figure_text.h"

namespace qwb::report {

std::optional<Plot> block_plot(const Report& report, ErrorOf error, const std::string& name,
                               const std::string& what) {
  LinePlot plot;
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (size_t v = 0; v < report.versions.size(); ++v) {
    if (!report.versions[v].making) continue;
    std::map<int64_t, std::pair<double, int>> blocks;
    for (const ModuleError& module : report.versions[v].making->modules) {
      if (!module.block || !(module.*error)) continue;
      blocks[*module.block].first += *(module.*error);
      ++blocks[*module.block].second;
    }
    LinePlot::Line line{report.versions[v].name, {}, v};
    for (const auto& [block, sum] : blocks) {
      const double mean = sum.first / sum.second;
      if (mean <= 0) continue;
      line.points.emplace_back(static_cast<double>(block), mean);
      least = std::min(least, mean);
      most = std::max(most, mean);
    }
    if (!line.points.empty()) plot.lines.push_back(std::move(line));
  }
  if (plot.lines.empty()) return std::nullopt;
  plot.log_y = most > 10 * least;
  plot.x_axis = "block";
  plot.y_axis = what;
  std::string names;
  for (const auto& line : plot.lines) names += (names.empty() ? "" : ", ") + line.label;
  return Plot{
      name, capitalized(what) + " by block",
      "mean over the modules of a block, as qwb.json tells it; versions without loss have no line",
      "Versions with a line: " + names + ". The table of blocks has the numbers.", std::move(plot)};
}

Plot histogram_plot(const Report& report, const ModuleHistogram& histogram, size_t number) {
  const Version& version = report.versions[histogram.version];
  HistogramPlot plot;
  plot.x_axis = "weight";
  plot.y_axis = "share of all weights / %";
  plot.before_label = "original";
  plot.after_label = version.name;
  plot.low = histogram.pair.low;
  plot.high = histogram.pair.high;
  plot.style = histogram.version;
  for (const int64_t n : histogram.pair.before)
    plot.before.push_back(100 * static_cast<double>(n) / histogram.pair.before_count);
  for (const int64_t n : histogram.pair.after)
    plot.after.push_back(100 * static_cast<double>(n) / histogram.pair.after_count);
  return {fmt::format("weights-{}", number),
          "Weights of " + histogram.module + ", before and after",
          fmt::format("{} bins over all {:.0f} values of each; logarithmic shares", kHistogramBins,
                      histogram.pair.before_count),
          "Version: " + version.name, std::move(plot)};
}

}  // namespace qwb::report
