#include "tools/common/report_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <system_error>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/report/gnuplot.h"
#include "lib/report/render.h"

namespace qwb {
namespace {

struct FormatName {
  const char* name;
  const char* ending;
  ReportFormat format;
};
constexpr FormatName kReportFormats[] = {{"table", ".txt", ReportFormat::text},
                                         {"md", ".md", ReportFormat::markdown},
                                         {"csv", ".csv", ReportFormat::csv},
                                         {"json", ".json", ReportFormat::json},
                                         {"html", ".html", ReportFormat::html}};

bool draws(const ReportOptions& options) {
  bool html = options.format == "html";
  for (const std::string& file : options.out) html |= format_of_file(file) == ReportFormat::html;
  return html;
}

std::string one_format(const ReportInputs& inputs, ReportFormat format, bool color,
                       const std::vector<report::Plot>& plots,
                       const std::vector<report::Picture>& pictures,
                       const std::string& no_pictures) {
  switch (format) {
    case ReportFormat::text:
      return report::report_text(inputs.report, color);
    case ReportFormat::markdown:
      return report::report_markdown(inputs.report);
    case ReportFormat::csv:
      return report::report_csv(inputs.report);
    case ReportFormat::json:
      return json_text(report::report_json(inputs.report, inputs.histograms));
    case ReportFormat::html:
      return report::report_html(inputs.report, plots, pictures, no_pictures);
  }
  return {};
}

}  // namespace

ReportFormat find_report_format(const std::string& name) {
  for (const FormatName& known : kReportFormats) {
    if (same_name(name, known.name)) return known.format;
  }
  throw Error(ErrorKind::usage, "no format '" + name + "'", {}, "use table, md, csv, json or html");
}

ReportFormat format_of_file(const Path& file) {
  for (const FormatName& known : kReportFormats) {
    if (has_suffix(file.native(), known.ending)) return known.format;
  }
  throw Error(ErrorKind::usage, "the ending tells no format", file.string(),
              "use .txt, .md, .csv, .json or .html");
}

namespace {

// The names that all our reports and plots have in them, and hardly anything else has.
bool has_all(const Path& file, std::initializer_list<const char*> words) {
  const std::string text = read_text(file, int64_t{1} << 28);
  return std::all_of(words.begin(), words.end(),
                     [&](const char* word) { return text.find(word) != std::string::npos; });
}

bool is_report_file(const Path& file) {
  if (has_suffix(file.native(), ".json"))
    return has_all(file, {"\"schema\"", "\"title\"", "\"versions\"", "\"artifact\""});
  if (has_suffix(file.native(), ".csv")) return has_all(file, {"version,artifact,method,bits"});
  return has_all(file, {"What decides"});
}

bool is_own_picture(const Path& file) {
  // A PNG tells nothing; the same picture as SVG lies beside it.
  Path drawn = file;
  std::error_code ignored;
  return std::filesystem::exists(drawn.replace_extension(".svg"), ignored) &&
         has_all(drawn, {"<svg", "gnuplot"});
}

}  // namespace

void check_report_options(ReportOptions& options, Tool& tool) {
  if (options.inputs.empty())
    throw Error(ErrorKind::usage,
                "nothing to report: name result files (qwb-eval --json) or folders");
  if (tool.json() && options.format != "table")
    throw Error(ErrorKind::usage, "--output and --json both say what to print; use one");
  find_report_format(options.format);
  if (!options.baseline.empty() && options.modules.empty())
    throw Error(ErrorKind::usage, "--baseline belongs to --module");
  for (const std::string& input : options.inputs) {
    tool.reads(input);
    tool.reads(input.substr(input.find('=') + 1));  // NAME=INPUT
  }
  if (!options.baseline.empty()) tool.reads(options.baseline);
  for (std::string& file : options.out) {
    format_of_file(file);
    file = tool.outputs().file(file, "--out", is_report_file).string();
  }
  if (options.plots.empty()) return;
  if (!report::find_gnuplot())
    throw Error(ErrorKind::unsupported, "plots are drawn by gnuplot, which is not in the PATH", {},
                report::gnuplot_advice());
  options.plots = tool.outputs().folder_for_files(options.plots, "--plots").string();
}

namespace {

// Finds conflicts before the drawing: no picture is replaced unless all may be.
void check_pictures(const Path& folder, const std::vector<report::Plot>& plots, Tool& tool) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored)) return;
  for (const report::Plot& plot : plots) {
    for (const char* ending : {".svg", ".png"})
      tool.outputs().file(folder / (plot.name + ending), "--plots", is_own_picture);
  }
}

void write_plots(const Path& folder, const Path& gnuplot, const std::vector<report::Plot>& plots,
                 Tool& tool) {
  check_pictures(folder, plots, tool);
  std::vector<std::pair<Path, std::string>> files;
  for (report::Picture& picture :
       report::draw_plots(gnuplot, plots, true, true, tool.context().stop)) {
    files.emplace_back(folder / (picture.name + ".svg"), std::move(picture.svg));
    files.emplace_back(folder / (picture.name + ".png"), std::move(picture.png));
  }
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) throw system_error("cannot make the folder", folder.string(), failed.value());
  for (const auto& [file, content] : files)
    write_file_atomically(file, as_bytes(content), tool.outputs().force());
}

}  // namespace

void write_report(const ReportOptions& options, const ReportInputs& inputs, Tool& tool) {
  const std::vector<report::Plot> plots = report::plots_of(inputs.report, inputs.histograms);
  std::vector<report::Picture> pictures;
  std::string no_pictures;
  const std::optional<Path> gnuplot = report::find_gnuplot();
  // Of pages: they are worth having without plots too. Plots of their own come last, so that
  // whatever happens to them the rest is there.
  if (draws(options)) {
    try {
      if (!gnuplot)
        throw Error(ErrorKind::unsupported, "gnuplot is not in the PATH", {},
                    report::gnuplot_advice());
      pictures = report::draw_plots(*gnuplot, plots, false, false, tool.context().stop);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
      no_pictures = std::string("No plots: ") + error.what();
      tool.note(no_pictures);
    }
  }
  const auto rendered = [&](ReportFormat format, bool color) {
    return one_format(inputs, format, color, plots, pictures, no_pictures);
  };
  for (const std::string& file : options.out)
    write_file_atomically(file, as_bytes(rendered(format_of_file(file), false)),
                          tool.outputs().force());
  if (tool.json())
    tool.print(report::report_json(inputs.report, inputs.histograms)
                   .dump(-1, ' ', false, Json::error_handler_t::replace) +
               "\n");
  else
    tool.print(rendered(find_report_format(options.format), tool.color_stdout()));
  if (!options.plots.empty()) write_plots(options.plots, gnuplot.value(), plots, tool);
}

}  // namespace qwb
