// Scratch of the fast executor that a thread keeps between calls, and bounds that its files share.
#pragma once

#include <cstdint>

#include "lib/tensor/tensor.h"

namespace qwb {

constexpr int64_t kFewTokens = 6;  // up to here a row of the weight is multiplied as it is stored
constexpr int64_t kElementGrain = 1 << 14;  // elements of an elementwise operation

// Until the thread's next call.
inline float* scratch(int64_t count) {
  static thread_local FloatBuffer buffer;
  if (buffer.size() < count) buffer = FloatBuffer(count);
  return buffer.data();
}

// What holds bf16 at the same time.
enum class Narrow { tokens, weight, scores, queries, keys, values };
template <Narrow Which>
uint16_t* narrow_scratch(int64_t count) {
  static thread_local AlignedBuffer buffer;
  if (buffer.size() < 2 * count) buffer = AlignedBuffer(2 * count);
  return reinterpret_cast<uint16_t*>(buffer.data());
}

}  // namespace qwb
