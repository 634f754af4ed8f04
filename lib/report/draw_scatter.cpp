// Marks with their names beside them. gnuplot puts a label where it is told to, even on another:
// places are searched here (label_placement.h), in pixels of the area.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lib/base/text.h"
#include "lib/report/drawing.h"
#include "lib/report/gnuplot_script.h"
#include "lib/report/label_placement.h"

namespace qwb::report {
namespace {

constexpr double kAreaWidth = 371;  // pixels that the margins leave; of a PNG some more
constexpr int64_t kLabelColumns = 19;
constexpr double kLabelColumn = 7.8, kLabelHeight = 15;  // pixels

// An axis that holds all marks with room around them.
struct ScatterAxis {
  Interval span = kNothing;
  bool log = false;

  void add(double value, const std::optional<Interval>& bounds) {
    widen(span, value);
    if (bounds) widen(span, bounds->low), widen(span, bounds->high);
  }
  void add_room() {
    if (log) {
      const double room = std::max(std::pow(span.high / span.low, 0.07), 1.05);
      span = {span.low / room, span.high * room};
    } else {
      const double range = span.high - span.low;
      const double room = range > 0 ? 0.07 * range : span.high != 0 ? 0.1 * std::abs(span.high) : 1;
      span = {span.low - room, span.high + room};
    }
  }
  // 0 at the lower end, 1 at the upper.
  double place(double value) const {
    if (log) return std::log(value / span.low) / std::log(span.high / span.low);
    return (value - span.low) / (span.high - span.low);
  }
  std::string commands(char name) const {
    if (log) return log_axis(span);
    return fmt::format("set {0}range [{1:.9g}:{2:.9g}]\nset {0}tics {3}\n", name, span.low,
                       span.high, tick_step(span.high - span.low, 5));
  }
};

struct ScatterArea {
  ScatterAxis x, y;
  double height = 0;

  double right_of(double value) const { return kAreaWidth * x.place(value); }
  double below(double value) const { return height * (1 - y.place(value)); }
  std::string graph(double right, double down) const {
    return fmt::format("graph {:.5f}, graph {:.5f}", right / kAreaWidth, 1 - down / height);
  }
};

ScatterArea scatter_area(const ScatterPlot& plot, double height) {
  ScatterArea area{{}, {kNothing, plot.log_y}, height};
  for (const auto& mark : plot.marks) {
    area.x.add(mark.x, mark.x_bounds);
    area.y.add(mark.y, mark.y_bounds);
  }
  area.x.add_room();
  area.y.add_room();
  return area;
}

// What labels may not cover: marks, error bars, and the front in small steps.
std::vector<Box> taken_places(const ScatterPlot& plot, const DataRows& front,
                              const ScatterArea& area) {
  std::vector<Box> taken;
  for (const auto& mark : plot.marks) {
    const double x = area.right_of(mark.x), y = area.below(mark.y);
    taken.push_back({x - 6, y - 6, x + 6, y + 6});
    if (mark.x_bounds)
      taken.push_back(
          {area.right_of(mark.x_bounds->low), y - 3, area.right_of(mark.x_bounds->high), y + 3});
    if (mark.y_bounds)
      taken.push_back(
          {x - 3, area.below(mark.y_bounds->high), x + 3, area.below(mark.y_bounds->low)});
  }
  for (size_t i = 1; i < front.size(); ++i) {
    const double x1 = area.right_of(front[i - 1][0]), y1 = area.below(front[i - 1][1]);
    const double x2 = area.right_of(front[i][0]), y2 = area.below(front[i][1]);
    const int steps = static_cast<int>(std::hypot(x2 - x1, y2 - y1) / 6) + 1;
    for (int k = 0; k <= steps; ++k) {
      const double x = x1 + (x2 - x1) * k / steps, y = y1 + (y2 - y1) * k / steps;
      taken.push_back({x - 2, y - 2, x + 2, y + 2});
    }
  }
  return taken;
}

// Names of marks; from those far off a line leads to the mark.
std::string mark_labels(const ScatterPlot& plot, const DataRows& front, const ScatterArea& area) {
  std::vector<LabelRequest> requests;
  for (const auto& mark : plot.marks) {
    const int64_t columns = std::min(display_width(mark.label), kLabelColumns);
    requests.push_back({area.right_of(mark.x), area.below(mark.y),
                        kLabelColumn * static_cast<double>(columns), kLabelHeight});
  }
  const Box inside{3, 1, kAreaWidth + 14, area.height - 3};
  const auto places = place_labels(requests, taken_places(plot, front, area), inside);
  std::string text;
  for (size_t i = 0; i < places.size(); ++i) {
    const LabelPlace& p = places[i];
    const LabelRequest& r = requests[i];
    const double dx = r.width / 2, dy = r.height / 2;
    if (p.far)  // to the nearest point of the text's box
      text += fmt::format(
          "set arrow from {} to {} nohead linewidth 0.7 linecolor rgb '{}' front\n",
          area.graph(r.x, r.y),
          area.graph(std::clamp(r.x, p.x - dx, p.x + dx), std::clamp(r.y, p.y - dy, p.y + dy)),
          kGrey);
    text += fmt::format("set label {} at {} center front\n",
                        quoted_within(plot.marks[i].label, kLabelColumns), area.graph(p.x, p.y));
  }
  return text;
}

}  // namespace

Drawing drawing_of(const ScatterPlot& plot) {
  Drawing drawing{.x_title = plot.x_axis,
                  .y_title = plot.y_axis,
                  .grid = "xtics ytics",
                  .legend = {"Pareto front: filled marks; others are hollow"}};
  const ScatterArea area = scatter_area(plot, drawing.height);
  DataRows marks, front;
  for (const auto& mark : plot.marks) {
    const Interval none{NAN, NAN}, x = mark.x_bounds.value_or(none),
                                   y = mark.y_bounds.value_or(none);
    marks.push_back({mark.x, mark.y, x.low, x.high, y.low, y.high,
                     static_cast<double>(style_point(mark.style, mark.front)),
                     static_cast<double>(style_color(mark.style))});
    if (mark.front) front.push_back({mark.x, mark.y});
  }
  std::sort(front.begin(), front.end());
  drawing.commands = data_block("marks", marks) + data_block("front", front) +
                     area.x.commands('x') + area.y.commands('y') + mark_labels(plot, front, area);
  drawing.commands += fmt::format(
      R"(plot $front using 1:2 with lines dashtype (6,4) linewidth 1.5 linecolor rgb '{}' title '{}', \
  $marks using 1:2:3:4:8 with xerrorbars pointtype 0 linewidth 1.5 linecolor rgb variable notitle, \
  $marks using 1:2:5:6:8 with yerrorbars pointtype 0 linewidth 1.5 linecolor rgb variable notitle, \
  $marks using 1:2:7:8 with points pointtype variable pointsize 1.2 linewidth 2 \
    linecolor rgb variable notitle
)",
      kGrey, drawing.legend[0]);
  return drawing;
}

}  // namespace qwb::report
