#include "lib/model/rotary.h"

#include <cmath>

namespace qwb {

RotaryTable::RotaryTable(const Rope& rope, int64_t first_position, int64_t tokens) {
  const auto half = static_cast<int64_t>(rope.frequencies.size());
  cosine = FloatBuffer(tokens * half, MemoryKind::activations);
  sine = FloatBuffer(tokens * half, MemoryKind::activations);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < half; ++k) {
      // The angle is rounded to f32 as the models were trained; its cosine is exact.
      const double angle =
          static_cast<float>(first_position + t) * rope.frequencies[static_cast<size_t>(k)];
      cosine[t * half + k] = static_cast<float>(std::cos(angle)) * rope.attention_factor;
      sine[t * half + k] = static_cast<float>(std::sin(angle)) * rope.attention_factor;
    }
  }
}

}  // namespace qwb
