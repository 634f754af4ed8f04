// Pictures of modules: errors by block, weights before and after.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "lib/report/plot.h"

namespace qwb::report {

using ErrorOf = std::optional<double> ModuleError::*;

// The mean error of the modules in each block; `what` names it. Nothing if no version has any.
std::optional<Plot> block_plot(const Report& report, ErrorOf error, const std::string& name,
                               const std::string& what);
// `number`: of the histogram in the report, for its name.
Plot histogram_plot(const Report& report, const ModuleHistogram& histogram, size_t number);

}  // namespace qwb::report
