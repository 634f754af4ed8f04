// The figures of one record of qwb-eval --json (lib/evaluate/record.h), each with the condition it
// was taken under.
#pragma once

#include <string>
#include <vector>

#include "lib/report/report.h"

namespace qwb::report {

struct Reading {
  Metric metric;
  std::string condition;  // empty: none, or no value
  Figure figure;
};

// Throws `unsupported` for a record of another schema, `failed`, naming `where`, for JSON that is
// not a record or has impossible values.
void check_record(const Json& record, const std::string& where);

// Every metric that a record can have, in the order of a table; a metric that was not measured has
// a figure without a value, with the reason. Texts are clean (clean_text.h). Throws `failed`,
// naming `where` and the field.
std::vector<Reading> readings_of(const Json& record, const std::string& where);
// Time and memory of making an artifact.
std::vector<Reading> readings_of(const std::optional<Making>& making);

}  // namespace qwb::report
