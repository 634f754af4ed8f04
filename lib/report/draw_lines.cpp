// Lines over blocks, and histograms.
#include <fmt/format.h>

#include <algorithm>

#include "lib/report/drawing.h"

namespace qwb::report {
namespace {

std::string curve_title(const std::string& label) {
  return "title " + quoted_within(label, 44);
}

// The middle and the height of each bin. On a logarithmic axis empty bins lie at its lower end.
DataRows bins(const HistogramPlot& plot, const std::vector<double>& shares, double floor) {
  const double step = (plot.high - plot.low) / static_cast<double>(shares.size());
  DataRows rows;
  for (size_t b = 0; b < shares.size(); ++b)
    rows.push_back({plot.low + step * (static_cast<double>(b) + 0.5), std::max(shares[b], floor)});
  return rows;
}

}  // namespace

Drawing drawing_of(const LinePlot& plot) {
  Drawing drawing{.x_title = plot.x_axis, .y_title = plot.y_axis};
  Interval x = kNothing, y = kNothing;
  std::string curves;
  for (const auto& line : plot.lines) {
    DataRows rows;
    for (const auto& [block, value] : line.points) {
      rows.push_back({block, value});
      widen(x, block), widen(y, value);
    }
    const size_t number = drawing.legend.size();
    drawing.commands += data_block(fmt::format("line{}", number), rows);
    curves += fmt::format(
        "{}$line{} using 1:2 with linespoints linewidth 1.5 linecolor rgb {} pointtype {} "
        "pointsize {} {}",
        number == 0 ? "plot " : ", ", number, style_color(line.style),
        style_point(line.style, true), rows.size() > 40 ? 0.5 : 0.9, curve_title(line.label));
    drawing.legend.push_back(line.label);
  }
  // Blocks have whole numbers; linear axes begin at zero.
  drawing.commands += fmt::format("set xrange [{}:{}]\nset xtics {}\n", x.low - 0.5, x.high + 0.5,
                                  x.high - x.low < 8 ? "1" : tick_step(x.high - x.low, 8));
  drawing.commands += plot.log_y ? log_axis({y.low / 1.2, y.high * 1.2})
                                 : fmt::format("set yrange [0:{:.9g}]\n", 1.05 * y.high);
  drawing.commands += curves + "\n";
  return drawing;
}

Drawing drawing_of(const HistogramPlot& plot) {
  Drawing drawing{.x_title = plot.x_axis,
                  .y_title = plot.y_axis,
                  .legend = {plot.before_label, plot.after_label}};
  Interval y = kNothing;
  for (const auto* shares : {&plot.before, &plot.after}) {
    for (const double share : *shares) {
      if (share > 0) widen(y, share);
    }
  }
  const Interval range{y.low / 1.5, y.high * 1.5};
  drawing.commands = data_block("before", bins(plot, plot.before, range.low)) +
                     data_block("after", bins(plot, plot.after, range.low)) + log_axis(range);
  drawing.commands += fmt::format(R"(set xrange [{:.9g}:{:.9g}]
set xtics {}
plot $before using 1:2 with boxes fillstyle transparent solid 0.5 noborder linecolor rgb '{}' {}, \
  $after using 1:2 with histeps linewidth 1.5 linecolor rgb {} {}
)",
                                  plot.low, plot.high, tick_step(plot.high - plot.low, 5), kGrey,
                                  curve_title(plot.before_label), style_color(plot.style),
                                  curve_title(plot.after_label));
  return drawing;
}

}  // namespace qwb::report
