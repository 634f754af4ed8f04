// Where qwb-report writes: formats by the endings of files, a folder of plots, standard output.
#pragma once

#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/jobs/report_job.h"
#include "tools/common/tool.h"

namespace qwb {

enum class ReportFormat { text, markdown, csv, json, html };
// By name (table, md, csv, json, html). Throws usage, listing them.
ReportFormat find_report_format(const std::string& name);
// By the ending of a file: .txt, .md, .csv, .json, .html. Throws usage, listing them.
ReportFormat format_of_file(const Path& file);

struct ReportOptions : ReportRequest {
  std::vector<std::string> out;  // files, by their ending
  std::string plots;             // folder
  std::string format;            // of standard output: table, md, csv, json, html
};

// Throws usage for endings that no format has, an impossible combination; what keeps a place from
// being written, and unsupported if plots are wanted without a gnuplot: all before the work. Tells
// the tool what is read and what will be written; places become those that its outputs allow.
void check_report_options(ReportOptions& options, Tool& tool);

// Standard output and all files, each atomically.
void write_report(const ReportOptions& options, const ReportInputs& inputs, Tool& tool);

}  // namespace qwb
