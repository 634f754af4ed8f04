#include "lib/model/mlp.h"

#include <algorithm>

namespace qwb {

Mlp::Mlp(const MlpSpec& spec, const TensorSource& source)
    : up_(spec.up, source), down_(spec.down, source) {
  if (!spec.gate.empty()) gate_.emplace(spec.gate.front(), source);
}

std::vector<Linear*> Mlp::linears() {
  std::vector<Linear*> all;
  if (gate_) all.push_back(&*gate_);
  all.push_back(&up_);
  all.push_back(&down_);
  return all;
}

void Mlp::inner(const LayerContext& layer, const float* h, int64_t rows, float* inner) const {
  // Packed weights cost nothing to begin with again: what they make is activated while it is in a
  // near cache.
  constexpr int64_t kNear = 128;
  const int64_t hidden = up_.spec.in, width = up_.spec.out;
  const int64_t most = up_.weight.packed != nullptr ? std::min(rows, kNear) : rows;
  FloatBuffer up(gate_ ? most * width : 0, MemoryKind::activations);
  for (int64_t begin = 0; begin < rows; begin += most) {
    const int64_t count = std::min(most, rows - begin), values = count * width;
    const float* from = h + begin * hidden;
    float* to = inner + begin * width;
    if (gate_) {
      apply_linears(layer.backend, {{&*gate_, to}, {&up_, up.data()}}, from, count);
      layer.backend.activate(layer.config.activation, to, up.data(), values);
    } else {
      up_.apply(layer.backend, from, count, to);
      layer.backend.activate(layer.config.activation, to, nullptr, values);
    }
  }
}

}  // namespace qwb
