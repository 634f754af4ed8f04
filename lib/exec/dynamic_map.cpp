#include "lib/exec/dynamic_map.h"

#include <algorithm>
#include <cmath>

namespace qwb {
namespace {

DynamicMap make_map(bool with_signs) {
  DynamicMap map{};
  size_t count = 0;
  for (int decade = 0; decade < 7; ++decade) {
    const int64_t values = int64_t{1} << (with_signs ? decade : decade + 1);
    const double step = 0.9 / static_cast<double>(values);
    for (int64_t i = 0; i < values; ++i) {
      const double value =
          std::pow(10.0, decade - 6) * (0.1 + step * (static_cast<double>(i) + 0.5));
      map[count++] = static_cast<float>(value);
      if (with_signs) map[count++] = static_cast<float>(-value);
    }
  }
  map[count++] = 0;
  map[count++] = 1;
  std::sort(map.begin(), map.end());
  return map;
}

}  // namespace

const DynamicMap& dynamic_map(bool with_signs) {
  static const DynamicMap with = make_map(true), without = make_map(false);
  return with_signs ? with : without;
}

uint8_t nearest_code(const DynamicMap& map, float x) {
  const auto above = std::lower_bound(map.begin(), map.end(), x);
  if (above == map.begin()) return 0;
  if (above == map.end()) return 255;
  const auto index = static_cast<uint8_t>(above - map.begin());
  return x - map[index - 1] <= map[index] - x ? static_cast<uint8_t>(index - 1) : index;
}

}  // namespace qwb
