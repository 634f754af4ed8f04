// Estimates in JSON: {"value", "stderr", "interval": [low, high]}, null where there is none.
// Numbers survive writing and reading bit for bit; NaN and infinities, which JSON has not, become
// null.
#pragma once

#include <optional>
#include <string>

#include "lib/base/json.h"
#include "lib/evaluate/statistics.h"

namespace qwb {

Json number_json(std::optional<double> value);
Json text_json(const std::string& value);  // null if empty
Json interval_json(const std::optional<Interval>& interval);
Json estimate_json(const Estimate& estimate);
// A null value reads as NaN. Throws `failed` for anything else.
Estimate estimate_from_json(const Json& json, const std::string& where);
double number_from_json(const Json& json);

}  // namespace qwb
