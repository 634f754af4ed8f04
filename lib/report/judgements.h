// Arguments for and against each version, by rules on the figures.
#pragma once

#include <vector>

#include "lib/report/report.h"

namespace qwb::report {

// In the order of versions, good ones first. No statement goes beyond the bounds of its figures:
// "fastest" is said of a version whose bounds lie wholly above those of all others, and figures
// whose error is not known (measured once) are not judged. Every statement cites its figures.
std::vector<Judgement> judge(const Report& report);

}  // namespace qwb::report
