#include "lib/model/rotary.h"

#include <cmath>

namespace qwb {
namespace {

Rotation rotation_of(const Executor& executor, const std::vector<float>& frequencies, float factor,
                     int64_t first_position, int64_t tokens) {
  const auto pairs = std::ssize(frequencies);
  Rotation made{executor.allocate(tokens, pairs), executor.allocate(tokens, pairs)};
  if (made.empty()) return made;
  const Matrix cosines(tokens, pairs, MemoryKind::activations);
  const Matrix sines(tokens, pairs, MemoryKind::activations);
  float *c = cosines.view().data, *s = sines.view().data;
  for (int64_t t = 0; t < tokens; ++t) {
    for (const float frequency : frequencies) {
      // The angle is rounded to f32 as the models were trained; its cosine is exact.
      const double angle = static_cast<float>(first_position + t) * frequency;
      *c++ = static_cast<float>(std::cos(angle)) * factor;
      *s++ = static_cast<float>(std::sin(angle)) * factor;
    }
  }
  executor.copy(cosines, made.cosine);
  executor.copy(sines, made.sine);
  return made;
}

}  // namespace

RotaryTable::RotaryTable(const Executor& executor, const Rope& rope, int64_t first_position,
                         int64_t tokens)
    : whole_(
          rotation_of(executor, rope.frequencies, rope.attention_factor, first_position, tokens)),
      local_(rotation_of(executor, rope.local_frequencies, 1, first_position, tokens)),
      layers_(rope.layers) {}

const Rotation& RotaryTable::of(int64_t layer) const {
  if (layers_.empty()) return whole_;
  switch (layers_[static_cast<size_t>(layer)]) {
    case LayerRope::none:
      return none_;
    case LayerRope::whole:
      return whole_;
    case LayerRope::local:
      return local_;
  }
  return none_;
}

}  // namespace qwb
