// The work of qwb-report: inputs to a report, a report to files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/report/builder.h"
#include "lib/report/kept.h"
#include "lib/report/plot.h"
#include "tools/common/tool.h"

namespace qwb {

struct ReportOptions {
  std::vector<std::string> inputs;   // FILE, FOLDER, NAME=FILE, NAME=FOLDER
  std::vector<std::string> modules;  // histograms
  std::string baseline;              // of the histograms
  std::string title;
  bool cached = true;            // look for kept results of folders
  std::vector<std::string> out;  // files, by their ending
  std::string plots;             // folder
  std::string format;            // of standard output: table, md, csv, json, html
};

// Throws usage for endings that no format has, an impossible combination; what keeps a place from
// being written, and unsupported if plots are wanted without a gnuplot: all before the work. Tells
// the tool what is read and what will be written; places become those that its outputs allow.
void check_report_options(ReportOptions& options, Tool& tool);

// A report and what could not be read of the inputs.
struct ReportInputs {
  Report report;
  std::vector<ModuleHistogram> histograms;
  int code = 0;  // of the first error; each was told already
};
// Whatever can be read is in the report. Throws what nothing can be made of: no input gave a
// version.
ReportInputs read_report_inputs(const ReportOptions& options, Tool& tool);

// Standard output and all files, each atomically.
void write_report(const ReportOptions& options, const ReportInputs& inputs, Tool& tool);

}  // namespace qwb
