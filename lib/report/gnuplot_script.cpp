#include "lib/report/gnuplot_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lib/report/clean_text.h"
#include "lib/report/label_placement.h"
#include "lib/report/plot_canvas.h"

namespace qwb {
namespace {

using Anchor = Canvas::Anchor;

constexpr double kRow = 26;  // of a bar and its space
constexpr double kBar = 16;
constexpr double kAreaHeight = 250;  // of all pictures but bars
constexpr double kLabelHeight = kPlotFont + 2;

double longest(const std::vector<std::string>& texts) {
  double most = 0;
  for (const std::string& text : texts) most = std::max(most, text_width(text, kPlotFont));
  return most;
}

Axis bar_axis(const BarPlot& plot) {
  double low = 0, high = 0;
  for (const auto& bar : plot.bars) {
    if (!bar.value) continue;
    low = std::min({low, *bar.value, bar.bounds ? bar.bounds->low : 0});
    high = std::max({high, *bar.value, bar.bounds ? bar.bounds->high : 0});
  }
  return linear_axis(low, high, 4, true);
}

void error_bar(Canvas& canvas, double x1, double y1, double x2, double y2,
               const std::string& color) {
  canvas.line(x1, y1, x2, y2, color, 1.5);
  const bool upright = x1 == x2;
  for (const auto& [x, y] : {std::pair{x1, y1}, std::pair{x2, y2}})
    canvas.line(x - (upright ? 3 : 0), y - (upright ? 0 : 3), x + (upright ? 3 : 0),
                y + (upright ? 0 : 3), color, 1.5);
}

void draw_bar(Canvas& canvas, const BarPlot::Bar& bar, double y) {
  canvas.text(canvas.left() - 8, y, fitted(bar.label, canvas.left() - 14, kPlotFont),
              Anchor::right);
  if (!bar.value) {
    canvas.text(canvas.x(0) + 6, y, fitted(bar.text, kPlotWidth - canvas.x(0) - 12, kPlotFont),
                Anchor::left, kGrey);
    return;
  }
  const double from = canvas.x(std::min(0.0, *bar.value)), to = canvas.x(std::max(0.0, *bar.value));
  // Of an estimate the bar is pale with a rim.
  canvas.box(from, y - kBar / 2, to, y + kBar / 2, style_color(bar.style),
             bar.estimated ? 0.35 : 0.9, false);
  if (bar.estimated)
    canvas.box(from, y - kBar / 2, to, y + kBar / 2, style_color(bar.style), 1, true);
  double end = to;
  if (bar.bounds) {
    error_bar(canvas, canvas.x(bar.bounds->low), y, canvas.x(bar.bounds->high), y, "black");
    end = std::max(end, canvas.x(bar.bounds->high));
  }
  canvas.text(end + 7, y, bar.text, Anchor::left);
}

PlotScript draw(const BarPlot& plot, Canvas canvas) {
  std::vector<std::string> labels, texts;
  for (const auto& bar : plot.bars) {
    labels.push_back(bar.label);
    if (bar.value) texts.push_back(bar.text);
  }
  const double left = std::clamp(longest(labels) + 16, 50.0, 0.42 * kPlotWidth);
  canvas.area(left, longest(texts) + 16, kRow * static_cast<double>(plot.bars.size()) + 6, 0);
  canvas.x_axis(bar_axis(plot), plot.axis, true);
  for (size_t i = 0; i < plot.bars.size(); ++i)
    draw_bar(canvas, plot.bars[i], canvas.top() + 6 + kRow * (static_cast<double>(i) + 0.4));
  canvas.line(canvas.x(0), canvas.top(), canvas.x(0), canvas.bottom(), kGrey, 1);
  return {canvas.script(), canvas.height()};
}

// Both ends of an axis over all values and bounds.
template <typename Range>
Interval span_of(const ScatterPlot& plot, Range range) {
  Interval all{INFINITY, -INFINITY};
  for (const auto& mark : plot.marks) {
    const Interval one = range(mark);
    all = {std::min(all.low, one.low), std::max(all.high, one.high)};
  }
  return all;
}

void scatter_axes(Canvas& canvas, const ScatterPlot& plot) {
  const auto reach = [](double value, const std::optional<Interval>& bounds) {
    return bounds ? Interval{std::min(value, bounds->low), std::max(value, bounds->high)}
                  : Interval{value, value};
  };
  const Interval x = span_of(plot, [&](const auto& mark) { return reach(mark.x, mark.x_bounds); });
  const Interval y = span_of(plot, [&](const auto& mark) { return reach(mark.y, mark.y_bounds); });
  canvas.x_axis(linear_axis(x.low, x.high, 5, false), plot.x_axis, true);
  canvas.y_axis(plot.log_y ? log_axis(y.low, y.high) : linear_axis(y.low, y.high, 5, false),
                plot.y_axis);
}

// Joins the marks on the front; labels avoid the line.
void draw_front(Canvas& canvas, const ScatterPlot& plot, std::vector<Box>& taken) {
  std::vector<std::pair<double, double>> front;
  for (const auto& mark : plot.marks) {
    if (mark.front) front.emplace_back(canvas.x(mark.x), canvas.y(mark.y));
  }
  std::sort(front.begin(), front.end());
  for (size_t i = 1; i < front.size(); ++i) {
    const auto [x1, y1] = front[i - 1];
    const auto [x2, y2] = front[i];
    canvas.line(x1, y1, x2, y2, kGrey, 1.5, true);
    const int steps = static_cast<int>(std::hypot(x2 - x1, y2 - y1) / 6) + 1;
    for (int k = 0; k <= steps; ++k) {
      const double x = x1 + (x2 - x1) * k / steps, y = y1 + (y2 - y1) * k / steps;
      taken.push_back({x - 2, y - 2, x + 2, y + 2});
    }
  }
}

void draw_labels(Canvas& canvas, const ScatterPlot& plot, const std::vector<Box>& taken) {
  std::vector<LabelRequest> requests;
  std::vector<std::string> texts;
  for (const auto& mark : plot.marks) {
    texts.push_back(fitted(mark.label, 150, kPlotFont));
    requests.push_back(
        {canvas.x(mark.x), canvas.y(mark.y), text_width(texts.back(), kPlotFont), kLabelHeight});
  }
  const Box inside{canvas.left() + 3, canvas.top() + 1, kPlotWidth - 4.0, canvas.bottom() - 3};
  const std::vector<LabelPlace> places = place_labels(requests, taken, inside);
  for (size_t i = 0; i < places.size(); ++i) {
    const LabelPlace& p = places[i];
    if (p.far) {
      // To the nearest point of the text's box.
      const double dx = requests[i].width / 2, dy = requests[i].height / 2;
      canvas.line(requests[i].x, requests[i].y, std::clamp(requests[i].x, p.x - dx, p.x + dx),
                  std::clamp(requests[i].y, p.y - dy, p.y + dy), kGrey, 0.7);
    }
    canvas.text(p.x, p.y, texts[i], Anchor::center);
  }
}

PlotScript draw(const ScatterPlot& plot, Canvas canvas) {
  const std::vector<Canvas::KeyEntry> key = {
      {"Pareto front: filled marks; others are hollow", kGrey, 0, true, false}};
  canvas.area(86, 18, kAreaHeight, Canvas::key_rows(key));
  scatter_axes(canvas, plot);
  std::vector<Box> taken;
  draw_front(canvas, plot, taken);
  for (const auto& mark : plot.marks) {
    const double x = canvas.x(mark.x), y = canvas.y(mark.y);
    const std::string color = style_color(mark.style);
    taken.push_back({x - 6, y - 6, x + 6, y + 6});
    if (mark.y_bounds) {
      const double top = canvas.y(mark.y_bounds->high), bottom = canvas.y(mark.y_bounds->low);
      error_bar(canvas, x, top, x, bottom, color);
      taken.push_back({x - 3, top, x + 3, bottom});
    }
    if (mark.x_bounds) {
      const double from = canvas.x(mark.x_bounds->low), to = canvas.x(mark.x_bounds->high);
      error_bar(canvas, from, y, to, y, color);
      taken.push_back({from, y - 3, to, y + 3});
    }
    canvas.mark(x, y, style_point(mark.style, mark.front), 1.2, color);
  }
  draw_labels(canvas, plot, taken);
  canvas.key(key);
  return {canvas.script(), canvas.height()};
}

PlotScript draw(const LinePlot& plot, Canvas canvas) {
  std::vector<Canvas::KeyEntry> key;
  Interval x{INFINITY, -INFINITY}, y = x;
  for (const auto& line : plot.lines) {
    key.push_back(
        {line.label, style_color(line.style), style_point(line.style, true), false, false});
    for (const auto& [a, b] : line.points) {
      x = {std::min(x.low, a), std::max(x.high, a)};
      y = {std::min(y.low, b), std::max(y.high, b)};
    }
  }
  canvas.area(86, 18, kAreaHeight, Canvas::key_rows(key));
  Axis blocks = linear_axis(x.low, x.high, 8, false);
  std::erase_if(blocks.ticks, [](double tick) { return tick != std::round(tick); });
  canvas.x_axis(blocks, plot.x_axis, false);
  canvas.y_axis(plot.log_y ? log_axis(y.low, y.high)
                           : linear_axis(std::min(0.0, y.low), 1.05 * y.high, 5, true),
                plot.y_axis);  // room for the highest mark
  for (const auto& line : plot.lines) {
    const std::string color = style_color(line.style);
    std::vector<std::pair<double, double>> points;
    for (const auto& [a, b] : line.points) points.emplace_back(canvas.x(a), canvas.y(b));
    canvas.polyline(points, color, 1.5);
    for (const auto& [a, b] : points)
      canvas.mark(a, b, style_point(line.style, true), points.size() > 40 ? 0.5 : 0.9, color);
  }
  canvas.key(key);
  return {canvas.script(), canvas.height()};
}

PlotScript draw(const HistogramPlot& plot, Canvas canvas) {
  double least = INFINITY, most = 0;
  for (const auto* shares : {&plot.before, &plot.after}) {
    for (const double share : *shares) {
      if (share > 0) least = std::min(least, share), most = std::max(most, share);
    }
  }
  const std::vector<Canvas::KeyEntry> key = {
      {plot.before_label, kGrey, 0, false, true},
      {plot.after_label, style_color(plot.style), 0, false, false}};
  canvas.area(86, 18, kAreaHeight, Canvas::key_rows(key));
  canvas.x_axis(linear_axis(plot.low, plot.high, 5, false), plot.x_axis, false);
  canvas.y_axis(log_axis(least / 1.5, most * 1.5), plot.y_axis);
  const double step = (plot.high - plot.low) / static_cast<double>(plot.before.size());
  for (const bool after : {false, true}) {
    const std::vector<double>& shares = after ? plot.after : plot.before;
    std::vector<std::pair<double, double>> stairs;
    for (size_t b = 0; b < shares.size(); ++b) {
      const double from = canvas.x(plot.low + step * static_cast<double>(b));
      const double to = canvas.x(plot.low + step * static_cast<double>(b + 1));
      const double top = shares[b] > 0 ? canvas.y(shares[b]) : canvas.bottom();
      stairs.insert(stairs.end(), {{from, top}, {to, top}});
      if (!after && shares[b] > 0) canvas.box(from, top, to, canvas.bottom(), kGrey, 0.5, false);
    }
    if (after) canvas.polyline(stairs, style_color(plot.style), 1.5);
  }
  canvas.key(key);
  return {canvas.script(), canvas.height()};
}

}  // namespace

std::string gnuplot_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : clean_text(text)) out += c == '\'' ? std::string("’") : std::string(1, c);
  return out + "'";
}

PlotScript gnuplot_script(const Plot& plot, bool captioned) {
  return std::visit(
      [&](const auto& content) { return draw(content, Canvas(plot.title, plot.note, captioned)); },
      plot.content);
}

}  // namespace qwb
