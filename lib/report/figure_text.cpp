#include "lib/report/figure_text.h"

#include <fmt/format.h>

#include <cmath>

#include "lib/base/text.h"

namespace qwb::report {
namespace {

std::string plain_text(double value) {
  const double size = std::abs(value);
  if (size >= 1e6) return fmt::format("{:.4g}", value);
  return fmt::format("{:.{}f}", value, size >= 1000 ? 1 : size >= 100 ? 2 : 3);
}

}  // namespace

std::string value_text(Quantity unit, double value) {
  switch (unit) {
    case Quantity::bytes:
      return human_bytes(static_cast<int64_t>(value));
    case Quantity::bits:
      return fmt::format("{:.2f}", value);
    case Quantity::plain:
      return plain_text(value);
    case Quantity::ratio:
      return fmt::format("{:.4f}", value);
    case Quantity::nats:
      return value != 0 && std::abs(value) < 1e-3 ? fmt::format("{:.2e}", value)
                                                  : fmt::format("{:.5f}", value);
    case Quantity::share:
      return fmt::format("{:.2f} %", 100 * value);
    case Quantity::seconds:
      return human_duration(value);
    case Quantity::rate:
      return human_number(value) + " t/s";
    case Quantity::joules:
      return std::abs(value) < 0.1 ? human_number(1e3 * value) + " mJ" : human_number(value) + " J";
  }
  return {};
}

std::string figure_text(const Column& column, const Figure& figure) {
  if (!figure.value) return "n/a";
  const Quantity unit = column.metric.unit;
  std::string text = value_text(unit, *figure.value);
  if (figure.error && unit == Quantity::share)
    text = fmt::format("{:.2f} ± {:.2f} %", 100 * *figure.value, 100 * *figure.error);
  else if (figure.error)
    text += " ± " + value_text(unit, *figure.error);
  return (figure.estimated ? "~" : "") + text + (figure.noisy ? " (noisy)" : "");
}

std::string bounds_text(const Column& column, const Figure& figure) {
  if (!figure.value || !figure.bounds) return {};
  const Quantity unit = column.metric.unit;
  std::string low = value_text(unit, figure.bounds->low);
  const std::string high = value_text(unit, figure.bounds->high);
  // "90 to 110 t/s", but "900 kB to 1.10 MB"
  const size_t space = high.rfind(' ');
  if (space != std::string::npos && low.ends_with(high.substr(space)))
    low.resize(low.size() - (high.size() - space));
  return low + " to " + high;
}

std::string bounds_name(BoundsKind kind) {
  if (kind == BoundsKind::interval) return "95 % interval";
  return kind == BoundsKind::range ? "least to most of the repetitions" : "";
}

std::string cited(const Column& column, const Figure& figure) {
  if (!figure.value) return "n/a";
  const std::string bounds = bounds_text(column, figure);
  std::string text = value_text(column.metric.unit, *figure.value);
  if (figure.estimated) text = "an estimated " + text;
  if (bounds.empty()) return text;
  return text + (column.metric.bounds == BoundsKind::interval ? " (95 %: " : " (") + bounds + ")";
}

std::string capitalized(const std::string& text) {
  return text.empty() ? text
                      : static_cast<char>(std::toupper(static_cast<unsigned char>(text[0]))) +
                            text.substr(1);
}

AxisUnit axis_unit(Quantity unit, double most) {
  switch (unit) {
    case Quantity::bytes:
      if (most >= 1e9) return {"GB", 1e-9};
      return most >= 1e6 ? AxisUnit{"MB", 1e-6} : AxisUnit{"kB", 1e-3};
    case Quantity::share:
      return {"%", 100};
    case Quantity::seconds:
      return most >= 1 ? AxisUnit{"s", 1} : AxisUnit{"ms", 1e3};
    case Quantity::rate:
      return {"tokens/s", 1};
    case Quantity::joules:
      return most >= 0.1 ? AxisUnit{"J", 1} : AxisUnit{"mJ", 1e3};
    case Quantity::nats:
      return {"nats per token", 1};
    default:
      return {"", 1};
  }
}

}  // namespace qwb::report
