// In which order GPTQ quantizes the input channels. Late columns carry the error of early ones, so
// the important come first.
#pragma once

#include <cstdint>
#include <vector>

namespace qwb {

enum class ColumnOrder {
  sequential,     // as stored
  group_aware,    // groups by their largest importance, inside a group by importance; groups stay
                  // whole (GPTQModel's GAR)
  static_groups,  // all columns by importance; groups keep their columns, so their grids are fixed
                  // before the first column
};

// order[position] = column, most important first; equal importance keeps the stored order. A short
// last group stays last in `group_aware`.
std::vector<int64_t> column_order(ColumnOrder kind, const std::vector<float>& importance,
                                  int64_t group_size);

}  // namespace qwb
