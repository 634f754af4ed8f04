// What the searches for the ranges of groups try, the same on every device: GPTQ's factors of the
// covered range, and AWQ's moves of its two ends.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/exec/host_device.h"

namespace qwb {

// Of GPTQ: candidate 0 is the factor 1, the one to beat; the others are 0.50, 0.51 .. 1.10.
constexpr int kRangeFactors = 62;
QWB_BOTH float range_factor(int candidate) {
  return candidate == 0 ? 1.0f : static_cast<float>(49 + candidate) / 100.0f;
}

// Of AWQ: what the two ends of a group's range are shrunk by, in fortieths, and how they move.
struct Shrink {
  int low = 0, high = 0;
};
inline bool operator==(const Shrink& a, const Shrink& b) {
  return a.low == b.low && a.high == b.high;
}
constexpr int kWidestShrink = -4, kNarrowestShrink = 30;  // 1.1 .. 0.25
QWB_BOTH float shrink_factor(int fortieths) {
  return static_cast<float>(40 - fortieths) / 40.0f;
}
// An end after a move; in the first pass the move is the shrink itself.
QWB_BOTH int moved_end(int now, int move, int pass, int widest) {
  if (pass == 0) return move;
  const int end = now + move;
  return end < widest ? widest : end > kNarrowestShrink ? kNarrowestShrink : end;
}

// The moves of a pass: first both ends alike by 1, 0.95 .. 0.5, then each end by itself, coarse and
// fine in turn. A symmetric grid has no ends of its own.
std::vector<Shrink> shrink_moves(int pass, bool symmetric);
// How wide ranges of rows that are worked on together may get: not wider than they are where f16
// scales would barely hold them.
int widest_shrink(const float* weight, int64_t count);

}  // namespace qwb
