#include "lib/model/rotary.h"

#include <cmath>

namespace qwb {

RotaryTable::RotaryTable(const Executor& executor, const Rope& rope, int64_t first_position,
                         int64_t tokens) {
  const auto half = static_cast<int64_t>(rope.frequencies.size());
  cosine = executor.allocate(tokens, half);
  sine = executor.allocate(tokens, half);
  if (empty()) return;
  const Matrix cosines(tokens, half, MemoryKind::activations);
  const Matrix sines(tokens, half, MemoryKind::activations);
  float *c = cosines.view().data, *s = sines.view().data;
  for (int64_t t = 0; t < tokens; ++t) {
    for (const float frequency : rope.frequencies) {
      // The angle is rounded to f32 as the models were trained; its cosine is exact.
      const double angle = static_cast<float>(first_position + t) * frequency;
      *c++ = static_cast<float>(std::cos(angle)) * rope.attention_factor;
      *s++ = static_cast<float>(std::sin(angle)) * rope.attention_factor;
    }
  }
  executor.copy(cosines, cosine);
  executor.copy(sines, sine);
}

}  // namespace qwb
