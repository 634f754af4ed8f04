#include <fmt/format.h>

#include "lib/report/answer.h"
#include "lib/report/figure_text.h"
#include "lib/report/html_page.h"
#include "lib/report/render.h"
#include "lib/report/svg.h"

namespace qwb::report {
namespace {

std::string figure_cell(const Column& column, const Figure& f) {
  if (!f.value)
    return "<td class=\"none\" title=\"" + escaped_html(f.why) + "\">n/a<small>" +
           escaped_html(f.why) + "</small></td>";
  std::string cell = fmt::format("<td data-value=\"{}\"", *f.value);
  std::string hint = bounds_name(column.metric.bounds);
  if (!f.remark.empty()) hint += (hint.empty() ? "" : "; ") + f.remark;
  if (!hint.empty()) cell += " title=\"" + escaped_html(hint) + "\"";
  cell += ">" + escaped_html(figure_text(column, f));
  const std::string bounds = bounds_text(column, f);
  if (!bounds.empty()) cell += "<small>" + escaped_html(bounds) + "</small>";
  if (f.noisy) cell += "<small>" + escaped_html(kNoisy) + "</small>";
  if (f.estimated) cell += "<small>estimate</small>";
  return cell + "</td>";
}

// Scrollable by keyboard where it is wider than the page.
std::string framed(const std::string& table, const std::string& name) {
  return "<div class=\"frame\" tabindex=\"0\" role=\"region\" aria-label=\"" + escaped_html(name) +
         "\">" + table + "</div>\n";
}

std::string columns_html(const Report& report, const std::string& title,
                         const std::vector<const Column*>& columns) {
  std::string table = "<table class=\"sortable\"><thead><tr><th scope=\"col\">version</th>";
  for (const Column* column : columns)
    table += "<th scope=\"col\" title=\"" + escaped_html(column->condition) + "\">" +
             escaped_html(column->title()) + "</th>";
  table += "</tr></thead>\n<tbody>\n";
  for (size_t v = 0; v < report.versions.size(); ++v) {
    const Version& version = report.versions[v];
    table += "<tr><th scope=\"row\" title=\"" + escaped_html(version.artifact) + "\">" +
             escaped_html(version.name) +
             (version.original && version.name != "original" ? " <small>original</small>" : "") +
             "</th>";
    for (const Column* column : columns) table += figure_cell(*column, column->figures[v]);
    table += "</tr>\n";
  }
  return "<h2>" + title + "</h2>\n" + framed(table + "</tbody></table>", title);
}

std::string html_list(const std::string& title, const std::vector<std::string>& lines) {
  if (lines.empty()) return {};
  std::string text = "<h2>" + title + "</h2>\n<ul>\n";
  for (const std::string& line : lines) text += "<li>" + escaped_html(line) + "</li>\n";
  return text + "</ul>\n";
}

std::string judgements_html(const Report& report) {
  if (report.judgements.empty()) return {};
  std::string table =
      "<table class=\"words\"><thead><tr><th scope=\"col\">version</th><th scope=\"col\" "
      "style=\"text-align:left\">for</th>"
      "<th scope=\"col\" style=\"text-align:left\">against</th></tr></thead>\n<tbody>\n";
  for (size_t v = 0; v < report.versions.size(); ++v) {
    std::string sides[2];
    for (const Judgement& j : report.judgements) {
      if (j.version == v) sides[j.good ? 0 : 1] += "<li>" + escaped_html(j.text) + "</li>";
    }
    table += "<tr><th scope=\"row\">" + escaped_html(report.versions[v].name) + "</th>";
    for (int s = 0; s < 2; ++s) {
      table += std::string("<td class=\"") + (s == 0 ? "good" : "bad") + "\">";
      table += sides[s].empty() ? "</td>" : "<ul>" + sides[s] + "</ul></td>";
    }
    table += "</tr>\n";
  }
  return "<h2>For and against</h2>\n<p class=\"faint\">By rules on the figures above: nothing is "
         "said beyond "
         "their bounds, and "
         "figures that were measured once are not judged.</p>\n" +
         framed(table + "</tbody></table>", "For and against");
}

std::string figure_html(const Plot& plot, const Picture& picture, size_t number) {
  return "<figure><h3>" + escaped_html(plot.title) + "</h3>\n" +
         inline_svg(picture.svg, fmt::format("p{}-", number)) + "\n<figcaption>" +
         escaped_html(plot.note) + "</figcaption></figure>\n";
}

// The figures that decide, what they recommend, and the picture that belongs to them.
std::string answer_html(const Report& report, const std::vector<Plot>& plots,
                        const std::vector<Picture>& pictures) {
  const Answer answer = answer_of(report);
  std::string text = columns_html(report, "What decides", answer.columns);
  if (answer.recommendations.empty()) return text;
  std::string table =
      "<table class=\"words\"><thead><tr><th scope=\"col\">for</th><th scope=\"col\" "
      "style=\"text-align:left\">recommended</th><th scope=\"col\" "
      "style=\"text-align:left\">because</th>"
      "</tr></thead>\n<tbody>\n";
  for (const Recommendation& r : answer.recommendations) {
    const bool none = r.versions.empty();
    table += fmt::format(
        "<tr><th scope=\"row\">{}</th><td{}>{}</td><td>{}<small>rule: {}</small></td></tr>\n",
        escaped_html(r.aim), none ? " class=\"none\"" : "",
        none ? "nothing" : "<b>" + escaped_html(recommended_names(report, r)) + "</b>",
        escaped_html(r.reason), escaped_html(r.rule));
  }
  text += "<h2>Recommended</h2>\n" + framed(table + "</tbody></table>", "Recommended");
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (plots[i].name == answer.plot) text += figure_html(plots[i], pictures[i], i);
  }
  return text;
}

std::string pictures_html(const Report& report, const std::vector<Plot>& plots,
                          const std::vector<Picture>& pictures, const std::string& no_pictures) {
  std::string text = "<h2>Plots</h2>\n";
  if (pictures.empty()) return text + "<p>" + escaped_html(no_pictures) + "</p>\n";
  text += "<div class=\"plots\">\n";
  const std::string at_the_head = answer_of(report).plot;
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (plots[i].name != at_the_head) text += figure_html(plots[i], pictures[i], i);
  }
  return text + "</div>\n";
}

std::string errors_html(const BlockErrors& errors) {
  std::string table = "<table class=\"sortable\"><thead><tr><th scope=\"col\">block</th>";
  for (const std::string& version : errors.versions)
    table += "<th scope=\"col\">" + escaped_html(version) + "</th>";
  table += "</tr></thead>\n<tbody>\n";
  for (size_t r = 0; r < errors.rows.size(); ++r) {
    table += "<tr><th scope=\"row\">" + escaped_html(errors.rows[r]) + "</th>";
    for (const auto& cell : errors.cells[r]) {
      table += cell ? fmt::format("<td data-value=\"{}\">{:.3g}</td>", *cell, *cell)
                    : "<td class=\"none\">n/a</td>";
    }
    table += "</tr>\n";
  }
  return "<details><summary>Mean " + errors.what + " of the modules of each block</summary>" +
         framed(table + "</tbody></table>", errors.what) + "</details>\n";
}

}  // namespace

std::string report_html(const Report& report, const std::vector<Plot>& plots,
                        const std::vector<Picture>& pictures, const std::string& no_pictures) {
  std::string text =
      html_head(escaped_html(report.title)) + "<h1>" + escaped_html(report.title) + "</h1>\n";
  text +=
      "<p class=\"faint\">± is one standard error; below it stands the 95 % interval, or of "
      "timings the "
      "least and the "
      "most of the repetitions. ~ marks an estimate. A click on a title sorts.<span "
      "class=\"narrow\"> Wide "
      "tables scroll sideways.</span></p>\n";
  text += answer_html(report, plots, pictures);
  for (const GroupTable& group : group_tables(report))
    text += columns_html(report, group_title(group.group), group.columns);
  text += html_list("Not measured", absent_metrics(report)) +
          html_list("Conditions", condition_notes(report));
  text += judgements_html(report) + pictures_html(report, plots, pictures, no_pictures);
  const std::vector<BlockErrors> errors = block_errors(report);
  if (!errors.empty()) text += "<h2>Error by block</h2>\n";
  for (const BlockErrors& table : errors) text += errors_html(table);
  return text + html_list("Problems", report.problems) + html_foot();
}

}  // namespace qwb::report
