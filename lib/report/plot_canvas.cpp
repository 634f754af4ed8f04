#include "lib/report/plot_canvas.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/base/text.h"
#include "lib/report/clean_text.h"
#include "lib/report/gnuplot_script.h"

namespace qwb {
namespace {

constexpr double kWidth = kPlotWidth;
constexpr double kLine = 18;  // of a title
constexpr double kNoteLine = 15;
constexpr int kNoteFont = 11;
constexpr double kKeyRow = 20;
constexpr double kAxisRoom = 52;   // tick labels and title below the area
constexpr double kKeySample = 34;  // of a key's line, mark or box

constexpr std::array<const char*, 6> kColors = {"#0072b2", "#e69f00", "#009e73",
                                                "#d55e00", "#cc79a7", "#56b4e9"};
constexpr std::array<std::pair<int, int>, 7> kPoints = {
    {{7, 6}, {5, 4}, {9, 8}, {11, 10}, {13, 12}, {15, 14}, {3, 2}}};  // filled, hollow

double nice_step(double range, int ticks) {
  const double rough = range / ticks, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= rough * 0.999) return factor * power;
  }
  return 10 * power;
}

}  // namespace

std::string style_color(size_t style) {
  return kColors[style % kColors.size()];
}

int style_point(size_t style, bool filled) {
  const auto& point = kPoints[style % kPoints.size()];
  return filled ? point.first : point.second;
}

double text_width(const std::string& text, int font) {
  return 0.6 * font * static_cast<double>(display_width(text));
}

std::string fitted(const std::string& text, double width, int font) {
  return fit_width(text, static_cast<int64_t>(width / (0.6 * font)));
}

std::vector<std::string> wrapped(const std::string& text, double width, int font, size_t most) {
  std::vector<std::string> lines;
  std::string line;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    const std::string longer = line.empty() ? word : line + " " + word;
    if (line.empty() || text_width(longer, font) <= width || lines.size() + 1 == most) {
      line = longer;  // the last line takes all that is left
    } else {
      lines.push_back(line);
      line = word;
    }
    begin = end + 1;
  }
  if (!line.empty()) lines.push_back(line);
  for (std::string& each : lines) each = fitted(each, width, font);
  return lines;
}

double Axis::place(double value) const {
  if (log) return (std::log(value) - std::log(low)) / (std::log(high) - std::log(low));
  return (value - low) / (high - low);
}

Axis linear_axis(double low, double high, int ticks, bool from_ticks) {
  if (!(high > low)) {
    const double room = high != 0 ? std::abs(high) * 0.1 : 1;
    low -= from_ticks && low >= 0 ? 0 : room, high += room;
  }
  Axis axis;
  const double step = nice_step(high - low, ticks);
  if (!from_ticks) low -= 0.07 * (high - low), high += 0.07 * (high - low);
  axis.low = low;
  axis.high = high;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k)
    axis.ticks.push_back(k * step);
  return axis;
}

Axis log_axis(double low, double high) {
  Axis axis;
  axis.log = true;
  const double room = std::pow(high / low, 0.07);
  axis.low = low / std::max(room, 1.05);
  axis.high = high * std::max(room, 1.05);
  const bool decades = high / low > 300;
  double power = std::pow(10, std::floor(std::log10(axis.low)));
  while (power <= axis.high) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = power * factor;
      if ((factor == 1 || !decades) && tick >= axis.low && tick <= axis.high)
        axis.ticks.push_back(tick);
    }
    power *= 10;
  }
  return axis;
}

Canvas::Canvas(const std::string& title, const std::string& note, bool captioned) {
  if (!captioned) return;
  title_ = wrapped(title, kWidth - 20, kPlotFont, 2);
  note_ = wrapped(note, kWidth - 20, kNoteFont, 4);
}

void Canvas::area(double left, double right, double height, int key_rows) {
  left_ = left;
  right_ = kWidth - right;
  top_ = 12 + kLine * static_cast<double>(title_.size());
  bottom_ = top_ + height;
  key_top_ = bottom_ + kAxisRoom;
  const double notes = key_top_ + kKeyRow * key_rows;
  height_ = std::ceil(notes + kNoteLine * static_cast<double>(note_.size()) + 6);
  for (size_t i = 0; i < title_.size(); ++i)
    text(10, 14 + kLine * static_cast<double>(i), title_[i], Anchor::left);
  for (size_t i = 0; i < note_.size(); ++i)
    text(10, notes + kNoteLine * (static_cast<double>(i) + 0.5), note_[i], Anchor::left, kGrey,
         kNoteFont);
}

std::string Canvas::screen(double x, double y) const {
  return fmt::format("screen {:.5f}, screen {:.5f}", x / kWidth, 1 - y / height_);
}

void Canvas::text(double x, double y, const std::string& text, Anchor anchor,
                  const std::string& color, int font, bool upright) {
  const char* side = anchor == Anchor::left     ? "left"
                     : anchor == Anchor::center ? "center"
                                                : "right";
  body_ +=
      fmt::format("set label {} at {} {}{} textcolor rgb '{}'{} front\n", gnuplot_quoted(text),
                  screen(x, y), side, upright ? " rotate by 90" : "", color,
                  font > 0 ? fmt::format(" font sprintf(',%.3g', {} * {})", font, kFontScale) : "");
}

void Canvas::line(double x1, double y1, double x2, double y2, const std::string& color,
                  double width, bool dashed) {
  body_ +=
      fmt::format("set arrow from {} to {} nohead linewidth {:.3g} linecolor rgb '{}'{} front\n",
                  screen(x1, y1), screen(x2, y2), width, color, dashed ? " dashtype (6,4)" : "");
}

// Behind everything.
void Canvas::grid_line(double x1, double y1, double x2, double y2) {
  body_ += fmt::format("set arrow from {} to {} nohead linewidth 0.4 linecolor rgb '{}' back\n",
                       screen(x1, y1), screen(x2, y2), kGrey);
}

void Canvas::polyline(const std::vector<std::pair<double, double>>& points,
                      const std::string& color, double width) {
  const std::string name = fmt::format("$line{}", polylines_++);
  data_ += name + " << END\n";
  for (const auto& [a, b] : points)
    data_ += fmt::format("{:.5f} {:.5f}\n", a / kWidth, 1 - b / height_);
  data_ += "END\n";
  curves_ += fmt::format(", {} using 1:2 with lines linewidth {:.3g} linecolor rgb '{}' notitle",
                         name, width, color);
}

void Canvas::mark(double x, double y, int point, double size, const std::string& color) {
  body_ += fmt::format(
      "set label '' at {} point pointtype {} pointsize {:.3g} linewidth 2 linecolor rgb '{}' "
      "front\n",
      screen(x, y), point, size, color);
}

void Canvas::box(double x1, double y1, double x2, double y2, const std::string& color,
                 double opacity, bool outline) {
  body_ += fmt::format("set object rectangle from {} to {} fillcolor rgb '{}' fillstyle {} front\n",
                       screen(x1, y1), screen(x2, y2), color,
                       outline ? fmt::format("empty border linecolor rgb '{}' linewidth 1.5", color)
                               : fmt::format("transparent solid {:.3g} noborder", opacity));
}

void Canvas::x_axis(const Axis& axis, const std::string& title, bool grid) {
  x_ = axis;
  for (const double tick : axis.ticks) {
    if (grid) grid_line(x(tick), top_, x(tick), bottom_);
    line(x(tick), bottom_, x(tick), bottom_ + 4, kGrey, 1);
    text(x(tick), bottom_ + 14, fmt::format("{:.6g}", std::abs(tick) < 1e-12 ? 0 : tick),
         Anchor::center);
  }
  line(left_, bottom_, right_, bottom_, kGrey, 1);
  // Under the area, but within the sheet whatever its length.
  const std::string words = fitted(title, kWidth - 12, kPlotFont);
  const double half = text_width(words, kPlotFont) / 2;
  text(std::clamp((left_ + right_) / 2, 6 + half, std::max(6 + half, kWidth - 6 - half)),
       bottom_ + 36, words, Anchor::center);
}

void Canvas::y_axis(const Axis& axis, const std::string& title) {
  y_ = axis;
  for (const double tick : axis.ticks) {
    grid_line(left_, y(tick), right_, y(tick));
    text(left_ - 6, y(tick), fmt::format("{:.6g}", std::abs(tick) < 1e-12 ? 0 : tick),
         Anchor::right);
  }
  line(left_, top_, left_, bottom_, kGrey, 1);
  text(12, (top_ + bottom_) / 2, fitted(title, bottom_ - top_ + 40, kPlotFont), Anchor::center,
       "black", 0, true);
}

int Canvas::key_columns(const std::vector<KeyEntry>& entries) {
  double widest = 1;
  for (const KeyEntry& entry : entries)
    widest = std::max(widest,
                      kKeySample + std::min(text_width(entry.label, kPlotFont), kWidth / 2) + 14);
  return std::max(1, static_cast<int>((kWidth - 20) / widest));
}

int Canvas::key_rows(const std::vector<KeyEntry>& entries) {
  const int columns = key_columns(entries);
  return (static_cast<int>(entries.size()) + columns - 1) / columns;
}

void Canvas::key(const std::vector<KeyEntry>& entries) {
  const int columns = key_columns(entries);
  const double pitch = (kWidth - 20) / columns;
  for (size_t i = 0; i < entries.size(); ++i) {
    const KeyEntry& entry = entries[i];
    const size_t row = i / static_cast<size_t>(columns), column = i % static_cast<size_t>(columns);
    const double x0 = 10 + pitch * static_cast<double>(column);
    const double y0 = key_top_ + kKeyRow * (static_cast<double>(row) + 0.4);
    if (entry.filled_box)
      box(x0, y0 - 5, x0 + 24, y0 + 5, entry.color, 0.5, false);
    else
      line(x0, y0, x0 + 26, y0, entry.color, 2, entry.dashed);
    if (entry.point > 0) mark(x0 + 13, y0, entry.point, 1, entry.color);
    text(x0 + kKeySample, y0, fitted(entry.label, pitch - kKeySample - 6, kPlotFont), Anchor::left);
  }
}

std::string Canvas::script() const {
  std::string text =
      "reset\nset encoding utf8\nunset key\nunset border\nunset tics\nset xrange [0:1]\nset yrange "
      "[0:1]\n";
  text +=
      "set lmargin at screen 0\nset rmargin at screen 1\nset bmargin at screen 0\nset tmargin at "
      "screen 1\n";
  // Ranges and margins make the coordinates of curves those of the screen.
  return text + data_ + body_ + "plot NaN notitle" + curves_ + "\n";
}

}  // namespace qwb
