// Short names for versions, each of its own.
#pragma once

#include <string>
#include <vector>

#include "lib/report/report.h"

namespace qwb::report {

// given: by the user, or empty. Others are called by their folder, or by method and bits where the
// folder is an object of the cache; equal names are made distinct by differing settings, else by
// numbers.
void name_versions(std::vector<Version>& versions, const std::vector<std::string>& given);

}  // namespace qwb::report
