// Records as qwb-eval --json writes them, with the figures that tests look at.
#pragma once

#include <string>

#include "lib/base/json.h"
#include "lib/report/builder.h"

namespace qwb::testing {

// Nothing measured but the size.
Json size_record(const std::string& artifact, const std::string& method, int64_t bytes, double bpw);
// With a perplexity and, unless it is 0, a ratio, each with an interval of +- 2 errors.
Json loss_record(const std::string& artifact, const std::string& method, int64_t bytes,
                 double value, double ratio, double error);
// With a decode speed and its range.
Json speed_record(const std::string& artifact, double rate, double least, double most);
void add_divergence(Json& record, double kl, double error);
void add_joules(Json& record, double joules, double least, double most, const std::string& quality);

// A report of such records.
report::Report report_of(const std::vector<Json>& records);
// An original, and two versions of it with joules and divergence.
report::Report small_report();
// All statements about the version of this name.
std::vector<std::string> statements(const report::Report& report, const std::string& version,
                                    bool good);

}  // namespace qwb::testing
