// What a merged weight's rows have added to them.
#pragma once

#include <cstdint>

#include "lib/codec/merged_weight.h"

namespace qwb {

// delta [columns] = row `row` of left times right. In the calling thread.
void merged_delta(const MergedWeight& merged, int64_t row, int64_t columns, float* delta);

}  // namespace qwb
