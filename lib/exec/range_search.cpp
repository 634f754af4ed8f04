#include "lib/exec/range_search.h"

#include <algorithm>
#include <cmath>

namespace qwb {

std::vector<Shrink> shrink_moves(int pass, bool symmetric) {
  constexpr int kCommon = 11;
  std::vector<Shrink> all;
  for (int step = 0; pass == 0 && step < kCommon; ++step) all.push_back({2 * step, 2 * step});
  const int size = pass % 2 == 1 ? 2 : 1;
  for (int low = -size; pass > 0 && low <= size; low += size) {
    for (int high = -size; high <= size; high += size) {
      if ((low != 0 || high != 0) && (!symmetric || low == high)) all.push_back({low, high});
    }
  }
  return all;
}

int widest_shrink(const float* weight, int64_t count) {
  constexpr float kHardlyHeld = 32768;
  const bool large = std::any_of(weight, weight + count,
                                 [](float value) { return std::abs(value) > kHardlyHeld; });
  return large ? 0 : kWidestShrink;
}

}  // namespace qwb
