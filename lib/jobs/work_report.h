// What quantizing did to each module, from qwb.json: for qwb-quantize right after the work and for
// qwb-inspect whenever.
#pragma once

#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/base/text.h"

namespace qwb {

// The modules of a qwb.json, each entry complete: method, method_version and settings also where
// they are those of most modules, rounding_error (the output error of plain rounding on the same
// grid, where the method tells it) beside output_error, and damping, attempts and dead_columns,
// null where the method has none.
Json module_reports(const Json& manifest);

// Lines about what happened: time by method, the modules that lost most, dampings that had to be
// raised, channels that no calibration token reached. Never more than a handful, whatever the
// number of modules.
std::vector<std::string> work_summary(const Json& manifest);

// A row per module: method, bits, bpw, output error of rounding and of what is stored, weight
// error, damping, seconds.
Table module_table(const Json& reports);

}  // namespace qwb
