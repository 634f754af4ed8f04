// The map of 8-bit optimizer states (arXiv 2110.02861, as bitsandbytes makes it): seven decades
// from 1e-7 to 1, each with twice as many values as the one below, 0 and 1; with both signs, or the
// sign's bit spent on twice as many values.
#pragma once

#include <array>
#include <cstdint>

namespace qwb {

using DynamicMap = std::array<float, 256>;  // ascending

const DynamicMap& dynamic_map(bool with_signs);
// The code of a nearest value; x within [-1, 1].
uint8_t nearest_code(const DynamicMap& map, float x);

}  // namespace qwb
