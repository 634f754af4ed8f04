#include <fmt/format.h>

#include "lib/report/figure_text.h"
#include "lib/report/render.h"

namespace qwb::report {
namespace {

// RFC 4180; a text that a spreadsheet would take for a formula is prefixed by an apostrophe.
std::string csv_field(const std::string& text) {
  std::string field = text;
  if (!field.empty() && std::string_view("=+-@").find(field[0]) != std::string_view::npos)
    field.insert(0, "'");
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string out = "\"";
  for (const char c : field) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

// As many digits as give the same double back.
std::string csv_number(std::optional<double> value) {
  return value ? fmt::format("{}", *value) : "n/a";
}

const char* csv_unit(Quantity unit) {
  switch (unit) {
    case Quantity::bytes:
      return "bytes";
    case Quantity::seconds:
      return "s";
    case Quantity::rate:
      return "tokens/s";
    case Quantity::joules:
      return "J";
    case Quantity::nats:
      return "nats";
    default:
      return "";
  }
}

std::string csv_title(const Column& column) {
  const std::string unit = csv_unit(column.metric.unit);
  return column.id() + (unit.empty() ? "" : " (" + unit + ")");
}

bool has_bounds(const Column& column) {
  return column.metric.bounds == BoundsKind::interval || column.metric.bounds == BoundsKind::range;
}

}  // namespace

std::string report_csv(const Report& report) {
  std::string text = "version,artifact,method,bits";
  for (const Column& column : report.columns) {
    text += "," + csv_field(csv_title(column));
    if (has_bounds(column))
      text += "," + csv_field(column.id() + " low") + "," + csv_field(column.id() + " high");
  }
  text += ",estimated,conditions,unmeasured\r\n";
  for (size_t v = 0; v < report.versions.size(); ++v) {
    const Version& version = report.versions[v];
    text += csv_field(version.name) + "," + csv_field(version.artifact) + "," +
            csv_field(version.method) + "," + csv_number(version.bits);
    std::string estimated, conditions, absent;
    const auto append = [](std::string& list, const std::string& item) {
      list += (list.empty() ? "" : "; ") + item;
    };
    for (const Column& column : report.columns) {
      const Figure& f = column.figures[v];
      text += "," + csv_number(f.value);
      if (has_bounds(column)) {
        text += "," + csv_number(f.value && f.bounds ? std::optional(f.bounds->low) : std::nullopt);
        text +=
            "," + csv_number(f.value && f.bounds ? std::optional(f.bounds->high) : std::nullopt);
      }
      if (!f.value) append(absent, column.id() + ": " + f.why);
      if (f.value && f.estimated) append(estimated, column.id());
      if (f.value && !column.condition.empty())
        append(conditions, column.id() + ": " + column.condition);
    }
    text +=
        "," + csv_field(estimated) + "," + csv_field(conditions) + "," + csv_field(absent) + "\r\n";
  }
  return text;
}

}  // namespace qwb::report
