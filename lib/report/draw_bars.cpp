// Bars lie: a version's name is longer than a bar of twenty is broad.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lib/base/text.h"
#include "lib/report/drawing.h"
#include "lib/report/gnuplot_script.h"

namespace qwb::report {
namespace {

constexpr int64_t kNameColumns = 22;    // of a version, at most
constexpr int64_t kReasonColumns = 60;  // of a row without a value
constexpr double kBarRow = 26;          // pixels of a bar and its space

// Names are the labels of ticks, which gnuplot reads as formats of numbers.
std::string name_ticks(const BarPlot& plot) {
  std::string ticks;
  for (size_t i = 0; i < plot.bars.size(); ++i) {
    ticks += i == 0 ? "" : ", ";
    for (const char c : quoted_within(plot.bars[i].label, kNameColumns))
      ticks += c == '%' ? std::string("%%") : std::string(1, c);
    ticks += fmt::format(" {}", i);
  }
  return "set ytics scale 0 (" + ticks + ")\n";
}

// Right of its bar its value, or in its place the reason why there is none.
std::string bar_text(const BarPlot::Bar& bar, size_t row, int64_t columns) {
  if (!bar.value)
    return fmt::format("set label {} at graph 0, first {} left offset 0.7, 0 textcolor rgb '{}'\n",
                       quoted_within(bar.text, columns), row, kGrey);
  const double end = std::max({0.0, *bar.value, bar.bounds ? bar.bounds->high : 0});
  return fmt::format("set label {} at {:.9g}, {} left offset 0.7, 0\n", gnuplot_quoted(bar.text),
                     end, row);
}

}  // namespace

Drawing drawing_of(const BarPlot& plot) {
  Drawing drawing{.x_title = plot.axis,
                  .height = kBarRow * static_cast<double>(plot.bars.size()),
                  .grid = "xtics"};
  Interval span{0, 0};
  DataRows rows;
  for (const auto& bar : plot.bars) {
    const double value = bar.value.value_or(NAN);
    const Interval bounds = bar.bounds.value_or(Interval{NAN, NAN});
    rows.push_back({static_cast<double>(rows.size()), value, bounds.low, bounds.high,
                    static_cast<double>(style_color(bar.style)), bar.estimated ? 1.0 : 0.0});
    drawing.left = std::max(drawing.left, std::min(display_width(bar.label), kNameColumns) + 2);
    if (!bar.value) continue;
    drawing.right = std::max(drawing.right, display_width(bar.text) + 1);
    widen(span, value);
    if (bar.bounds) widen(span, bounds.low), widen(span, bounds.high);
  }
  drawing.commands = data_block("bars", rows) + name_ticks(plot);
  for (size_t i = 0; i < rows.size(); ++i)
    drawing.commands += bar_text(plot.bars[i], i, kReasonColumns - 7 * drawing.left / 6);
  if (span.high <= span.low) span = {0, 1};
  // Of an estimate the bar is pale with a rim.
  drawing.commands += fmt::format(R"(set xrange [{:.9g}:{:.9g}]
set xtics {}
set yrange [{}:-0.6]
set yzeroaxis linetype 1 linecolor rgb '#808080'
plot $bars using (0):1:(0):($6 == 0 ? $2 : NaN):($1-0.31):($1+0.31):5 with boxxyerror \
  fillstyle solid 0.9 noborder linecolor rgb variable, \
  $bars using (0):1:(0):($6 == 1 ? $2 : NaN):($1-0.31):($1+0.31):5 with boxxyerror \
  fillstyle transparent solid 0.35 border linewidth 1.5 linecolor rgb variable, \
  $bars using 2:1:3:4 with xerrorbars pointtype 0 linewidth 1.5 linecolor rgb 'black'
)",
                                  span.low, span.high, tick_step(span.high - span.low, 4),
                                  static_cast<double>(rows.size()) - 0.4);
  return drawing;
}

}  // namespace qwb::report
