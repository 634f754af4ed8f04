// From result files and folders to a report.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/error.h"
#include "lib/report/plot.h"
#include "lib/report/report.h"

namespace qwb {

struct ReportRequest {
  std::vector<std::string> inputs = {};   // FILE, FOLDER, NAME=FILE, NAME=FOLDER
  std::vector<std::string> modules = {};  // histograms
  std::string baseline = {};              // of the histograms
  std::string title = {};
  bool cached = true;  // look for kept results of folders
};

// A report and what could not be read of the inputs.
struct ReportInputs {
  report::Report report;
  std::vector<report::ModuleHistogram> histograms;
  int code = 0;  // of the first error; each was told already
};
// Whatever can be read is in the report; `problem` is called for everything else. Without any
// version the report is empty and the code is not 0. Throws an interrupt only.
ReportInputs read_report_inputs(const ReportRequest& request, const Context& context,
                                const std::function<void(const Error&)>& problem);

}  // namespace qwb
