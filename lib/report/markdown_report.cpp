#include <fmt/format.h>

#include "lib/base/text.h"
#include "lib/report/answer.h"
#include "lib/report/figure_text.h"
#include "lib/report/render.h"

namespace qwb::report {
namespace {

// Escapes everything that Markdown, or the HTML inside of it, would take for markup. Table escapes
// "|".
std::string plain_markdown(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else if (std::string_view("\\`*_[]#!>").find(c) != std::string_view::npos)
      out += std::string("\\") + c;
    else
      out += c;
  }
  return out;
}

std::string list_of(const std::string& title, const std::vector<std::string>& lines) {
  if (lines.empty()) return {};
  std::string text = "\n## " + title + "\n\n";
  for (const std::string& line : lines) text += "- " + plain_markdown(line) + "\n";
  return text;
}

std::string judgements_table(const Report& report) {
  if (report.judgements.empty()) return {};
  Table table({{"version"}, {"for"}, {"against"}});
  for (size_t v = 0; v < report.versions.size(); ++v) {
    std::string good, bad;
    for (const Judgement& j : report.judgements) {
      if (j.version != v) continue;
      std::string& side = j.good ? good : bad;
      side += (side.empty() ? "" : "<br>") + plain_markdown(j.text);
    }
    table.add_row({plain_markdown(report.versions[v].name), good, bad});
  }
  return "\n## For and against\n\n" + table.markdown();
}

std::string errors_table(const BlockErrors& errors) {
  std::vector<Table::Column> columns = {{"mean " + errors.what}};
  for (const std::string& version : errors.versions)
    columns.push_back({plain_markdown(version), Table::Align::right});
  Table table(columns);
  for (size_t r = 0; r < errors.rows.size(); ++r) {
    std::vector<std::string> cells = {plain_markdown(errors.rows[r])};
    for (const auto& cell : errors.cells[r])
      cells.push_back(cell ? fmt::format("{:.3g}", *cell) : "");
    table.add_row(std::move(cells));
  }
  return "\n" + table.markdown();
}

std::string columns_markdown(const Report& report, const std::vector<const Column*>& chosen) {
  std::vector<Table::Column> columns = {{"version"}};
  for (const Column* column : chosen)
    columns.push_back({plain_markdown(column->title()), Table::Align::right});
  Table table(columns);
  for (size_t v = 0; v < report.versions.size(); ++v) {
    std::vector<std::string> cells = {plain_markdown(report.versions[v].name)};
    for (const Column* column : chosen)
      cells.push_back(plain_markdown(figure_text(*column, column->figures[v])));
    table.add_row(std::move(cells));
  }
  return table.markdown();
}

std::string answer_markdown(const Report& report) {
  const Answer answer = answer_of(report);
  std::string text = "\n## What decides\n\n" + columns_markdown(report, answer.columns);
  if (answer.recommendations.empty()) return text;
  Table table({{"for"}, {"recommended"}, {"because"}, {"rule"}});
  for (const Recommendation& r : answer.recommendations)
    table.add_row({r.aim, plain_markdown(recommended_names(report, r)), plain_markdown(r.reason),
                   plain_markdown(r.rule)});
  return text + "\n" + table.markdown();
}

}  // namespace

std::string report_markdown(const Report& report) {
  std::string text = "# " + plain_markdown(report.title) + "\n";
  text += answer_markdown(report);
  for (const GroupTable& group : group_tables(report))
    text += std::string("\n## ") + group_title(group.group) + "\n\n" +
            columns_markdown(report, group.columns);
  text += list_of("Not measured", absent_metrics(report)) +
          list_of("Conditions", condition_notes(report));
  text += judgements_table(report);
  const std::vector<BlockErrors> errors = block_errors(report);
  if (!errors.empty()) text += "\n## Error by block\n";
  for (const BlockErrors& table : errors) text += errors_table(table);
  text += list_of("Problems", report.problems);
  return text + "\n± is one standard error; ~ marks an estimate; n/a was not measured.\n";
}

}  // namespace qwb::report
