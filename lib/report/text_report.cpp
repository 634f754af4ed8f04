#include <fmt/format.h>

#include "lib/base/text.h"
#include "lib/report/answer.h"
#include "lib/report/figure_text.h"
#include "lib/report/render.h"

namespace qwb::report {
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

std::string columns_text(const Report& report, const std::string& title,
                         const std::vector<const Column*>& chosen, bool color) {
  std::vector<Table::Column> columns = {{title, Table::Align::left}};
  for (const Column* column : chosen) columns.push_back({column->title(), Table::Align::right});
  Table table(columns);
  for (size_t v = 0; v < report.versions.size(); ++v) {
    std::vector<std::string> cells = {report.versions[v].name};
    for (const Column* column : chosen) cells.push_back(figure_text(*column, column->figures[v]));
    table.add_row(std::move(cells));
  }
  return table.text(color);
}

std::string answer_text(const Report& report, bool color) {
  const Answer answer = answer_of(report);
  std::string text = columns_text(report, "What decides", answer.columns, color);
  if (answer.recommendations.empty()) return text;
  text += "\n" + heading("Recommended", color);
  for (const Recommendation& r : answer.recommendations)
    text += fmt::format("  {}: {}\n    because: {}\n    rule: {}\n", r.aim,
                        recommended_names(report, r), r.reason, r.rule);
  return text;
}

}  // namespace

std::string report_text(const Report& report, bool color) {
  std::string text = answer_text(report, color);
  for (const GroupTable& group : group_tables(report))
    text += "\n" + columns_text(report, group_title(group.group), group.columns, color);
  text += lines_of("Not measured", absent_metrics(report), color);
  text += lines_of("Conditions", condition_notes(report), color);
  return text + judgements_text(report, color) + lines_of("Problems", report.problems, color);
}

}  // namespace qwb::report
