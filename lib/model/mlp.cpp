#include "lib/model/mlp.h"

namespace qwb {

Mlp::Mlp(const MlpSpec& spec, const TensorSource& source, const Executor& executor)
    : up_(spec.up, source, executor), down_(spec.down, source, executor) {
  if (!spec.gate.empty()) gate_.emplace(spec.gate.front(), source, executor);
}

std::vector<Linear*> Mlp::linears() {
  std::vector<Linear*> all;
  if (gate_) all.push_back(&*gate_);
  all.push_back(&up_);
  all.push_back(&down_);
  return all;
}

void Mlp::inner(const LayerContext& layer, const Rows& h, Out inner) const {
  const Activation activation = layer.config.activation;
  if (!gate_) return layer.executor.gated(h, nullptr, up_.affine(), activation, inner);
  const Affine gate = gate_->affine();
  layer.executor.gated(h, &gate, up_.affine(), activation, inner);
}

}  // namespace qwb
