#include "lib/base/text.h"
#include "lib/report/figure_text.h"
#include "lib/report/render.h"

namespace qwb {
namespace {

std::string heading(const std::string& text, bool color) {
  return color ? "\x1b[1m" + text + "\x1b[0m\n" : text + "\n";
}

std::string lines_of(const std::string& title, const std::vector<std::string>& lines, bool color) {
  if (lines.empty()) return {};
  std::string text = "\n" + heading(title, color);
  for (const std::string& line : lines) text += "  " + line + "\n";
  return text;
}

std::string judgements_text(const Report& report, bool color) {
  if (report.judgements.empty()) return {};
  std::string text = "\n" + heading("For (+) and against (-)", color);
  size_t last = report.versions.size();
  for (const Judgement& j : report.judgements) {
    if (j.version != last) text += "  " + report.versions[j.version].name + "\n";
    last = j.version;
    text += std::string("    ") + (j.good ? "+ " : "- ") + j.text + "\n";
  }
  return text;
}

}  // namespace

std::string report_text(const Report& report, bool color) {
  std::string text;
  for (const GroupTable& group : group_tables(report)) {
    std::vector<Table::Column> columns = {{group_title(group.group), Table::Align::left}};
    for (const Column* column : group.columns) columns.push_back({column->title(), Table::Align::right});
    Table table(columns);
    for (size_t v = 0; v < report.versions.size(); ++v) {
      std::vector<std::string> cells = {report.versions[v].name};
      for (const Column* column : group.columns) cells.push_back(figure_text(*column, column->figures[v]));
      table.add_row(std::move(cells));
    }
    text += (text.empty() ? "" : "\n") + table.text(color);
  }
  text += lines_of("Not measured", absent_metrics(report), color);
  text += lines_of("Conditions", condition_notes(report), color);
  return text + judgements_text(report, color) + lines_of("Problems", report.problems, color);
}

}  // namespace qwb
