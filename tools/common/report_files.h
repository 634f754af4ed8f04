// Where qwb-report writes: formats by the endings of files, a folder of plots.
#pragma once

#include <string>

#include "lib/base/file.h"

namespace qwb {

enum class ReportFormat { text, markdown, csv, json, html };
// By name (table, md, csv, json, html). Throws usage, listing them.
ReportFormat find_report_format(const std::string& name);
// By the ending of a file: .txt, .md, .csv, .json, .html. Throws usage, listing them.
ReportFormat format_of_file(const Path& file);

}  // namespace qwb
