// The parts of a record (record.h) about quality.
#pragma once

#include "lib/base/json.h"
#include "lib/evaluate/quality.h"

namespace qwb {

Json perplexity_record(const QualityRecord& record);  // null if it was not measured
Json divergence_record(const QualityRecord& record);  // likewise
Json tasks_record(const QualityRecord& record);       // null if there are none

}  // namespace qwb
