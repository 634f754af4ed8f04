// Files of results: what qwb-eval --json wrote, one record a line.
#pragma once

#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb::report {

struct ResultLine {
  Json record;
  std::string where;  // "results.json: line 3"
};

struct ResultFile {
  std::vector<ResultLine> results;  // whose schema this version reads
  std::vector<Error> problems;      // of the other lines
};

// A single object or list over several lines is taken too. Empty lines mean nothing. Throws
// not_found or `failed` for a file that cannot be read or holds no line at all.
ResultFile read_results(const Path& file);

}  // namespace qwb::report
