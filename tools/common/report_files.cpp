#include "tools/common/report_files.h"

#include <fmt/format.h>

#include <set>
#include <system_error>

#include "lib/base/error.h"
#include "lib/report/gnuplot.h"
#include "lib/report/render.h"
#include "tools/common/report_job.h"

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

// By writing one: access() tells root of places where it cannot write either.
void try_to_write(const Path& folder) {
  const Path probe = temporary_sibling(folder / "probe");
  OutputFile::create(probe, 0);
  std::error_code ignored;
  std::filesystem::remove(probe, ignored);
}

bool draws(const ReportOptions& options) {
  bool html = options.format == "html";
  for (const std::string& file : options.out) html |= format_of_file(file) == ReportFormat::html;
  return html;
}

std::string one_format(const ReportInputs& inputs, ReportFormat format, bool color,
                       const std::vector<Plot>& plots, const std::vector<Picture>& pictures,
                       const std::string& no_pictures) {
  switch (format) {
    case ReportFormat::text:
      return report_text(inputs.report, color);
    case ReportFormat::markdown:
      return report_markdown(inputs.report);
    case ReportFormat::csv:
      return report_csv(inputs.report);
    case ReportFormat::json:
      return json_text(report_json(inputs.report, inputs.histograms));
    case ReportFormat::html:
      return report_html(inputs.report, plots, pictures, no_pictures);
  }
  return {};
}

}  // namespace

ReportFormat find_report_format(const std::string& name) {
  for (const FormatName& known : kReportFormats) {
    if (name == known.name) return known.format;
  }
  throw Error(ErrorKind::usage, "no format '" + name + "'", {}, "use table, md, csv, json or html");
}

ReportFormat format_of_file(const Path& file) {
  for (const FormatName& known : kReportFormats) {
    if (file.extension() == known.ending) return known.format;
  }
  throw Error(ErrorKind::usage, "the ending tells no format", file.string(),
              "use .txt, .md, .csv, .json or .html");
}

void require_writable_file(const Path& file) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored))
    throw Error(ErrorKind::usage, "this is a folder, not a file to write", file.string());
  const Path folder = file.has_parent_path() ? file.parent_path() : Path(".");
  if (!std::filesystem::is_directory(folder, ignored))
    throw Error(ErrorKind::not_found, "there is no such folder to write into", folder.string());
  try_to_write(folder);
}

void require_writable_folder(const Path& folder) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) throw system_error("cannot make the folder", folder.string(), failed.value());
  try_to_write(folder);
}

void check_report_options(const ReportOptions& options, bool json) {
  if (options.inputs.empty())
    throw Error(ErrorKind::usage, "nothing to report: name result files (qwb-eval --json) or folders");
  if (json && options.format != "table")
    throw Error(ErrorKind::usage, "--output and --json both say what to print; use one");
  find_report_format(options.format);
  if (!options.baseline.empty() && options.modules.empty())
    throw Error(ErrorKind::usage, "--baseline belongs to --module");
  std::set<std::string> files;
  for (const std::string& file : options.out) {
    format_of_file(file);
    if (!files.insert(file).second) throw Error(ErrorKind::usage, "this file is named twice", file);
    require_writable_file(file);
  }
  if (options.plots.empty()) return;
  if (!find_gnuplot())
    throw Error(ErrorKind::unsupported, "plots are drawn by gnuplot, which is not in the PATH", {},
                gnuplot_advice());
  require_writable_folder(options.plots);
}

namespace {

void write_plots(const Path& folder, const Path& gnuplot, const std::vector<Plot>& plots) {
  for (const Picture& picture : draw_plots(gnuplot, plots, true, true)) {
    write_file_atomically(folder / (picture.name + ".svg"), as_bytes(picture.svg));
    write_file_atomically(folder / (picture.name + ".png"), as_bytes(picture.png));
  }
}

}  // namespace

void write_report(const ReportOptions& options, const ReportInputs& inputs, Tool& tool) {
  const std::vector<Plot> plots = plots_of(inputs.report, inputs.histograms);
  std::vector<Picture> pictures;
  std::string no_pictures;
  const std::optional<Path> gnuplot = find_gnuplot();
  // Of pages: they are worth having without plots too. Plots of their own come last, so that whatever happens
  // to them the rest is there.
  if (draws(options)) {
    try {
      if (!gnuplot) throw Error(ErrorKind::unsupported, "gnuplot is not in the PATH", {}, gnuplot_advice());
      pictures = draw_plots(*gnuplot, plots, false, false);
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
    write_file_atomically(file, as_bytes(rendered(format_of_file(file), false)));
  if (tool.json())
    tool.print(
        report_json(inputs.report, inputs.histograms).dump(-1, ' ', false, Json::error_handler_t::replace) +
        "\n");
  else
    tool.print(rendered(find_report_format(options.format), tool.color_stdout()));
  if (!options.plots.empty()) write_plots(options.plots, gnuplot.value(), plots);
}

}  // namespace qwb
