#include "lib/report/drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/base/text.h"
#include "lib/report/gnuplot_script.h"

namespace qwb::report {
namespace {

constexpr std::array kColors = {0x0072b2, 0xe69f00, 0x009e73, 0xd55e00, 0xcc79a7, 0x56b4e9};
constexpr std::array<std::pair<int, int>, 7> kPoints = {
    {{7, 6}, {5, 4}, {9, 8}, {11, 10}, {13, 12}, {15, 14}, {3, 2}}};  // filled, hollow

}  // namespace

int style_color(size_t style) {
  return kColors[style % kColors.size()];
}

int style_point(size_t style, bool filled) {
  const auto& point = kPoints[style % kPoints.size()];
  return filled ? point.first : point.second;
}

std::string quoted_within(const std::string& text, int64_t columns) {
  return gnuplot_quoted(fit_width(text, columns));
}

std::string data_block(const std::string& name, const DataRows& rows) {
  std::string text = "$" + name + " << end\n";
  for (const auto& row : rows) {
    for (const double value : row)
      text += std::isnan(value) ? "NaN " : fmt::format("{:.9g} ", value);
    text += "\n";
  }
  return text + "end\n";
}

std::string tick_step(double range, int ticks) {
  const double rough = range > 0 ? range / ticks : 1;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= rough * 0.999) return fmt::format("{:.3g}", factor * power);
  }
  return fmt::format("{:.3g}", 10 * power);
}

std::string log_axis(const Interval& span) {
  std::string text =
      fmt::format("set logscale y\nset yrange [{:.9g}:{:.9g}]\n", span.low, span.high);
  if (span.high < 300 * span.low)
    text += "set for [k=-30:30] ytics add (2 * 10.0**k, 5 * 10.0**k)\n";
  return text;
}

void widen(Interval& span, double value) {
  span = span.low > span.high ? Interval{value, value}
                              : Interval{std::min(span.low, value), std::max(span.high, value)};
}

}  // namespace qwb::report
