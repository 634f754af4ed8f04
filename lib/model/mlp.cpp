#include "lib/model/mlp.h"

#include <array>

namespace qwb {

Mlp::Mlp(const MlpSpec& spec, const TensorSource& source, const Executor& executor)
    : up_(spec.up, source, executor), down_(spec.down, source, executor), fused_(spec.fused) {
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
  if (fused_) return inner_of_fused(layer, h, inner);
  const Activation activation = layer.config.activation;
  if (!up_.additions.empty() || (gate_ && !gate_->additions.empty()))
    return inner_of_adapted(layer, h, inner);
  if (!gate_) return layer.executor.gated(h, nullptr, up_.affine(), activation, inner);
  const Affine gate = gate_->affine();
  layer.executor.gated(h, &gate, up_.affine(), activation, inner);
}

void Mlp::inner_of_adapted(const LayerContext& layer, const Rows& h, Out inner) const {
  const Executor& executor = layer.executor;
  if (!gate_) {
    up_.apply(executor, h, inner);
    return executor.activate(layer.config.activation, inner);
  }
  const Matrix up = executor.allocate(inner.rows, inner.columns);
  apply(executor, h, std::array<LinearOutput, 2>{{{*gate_, inner}, {up_, up}}});
  executor.activate(layer.config.activation, inner, up);
}

void Mlp::inner_of_fused(const LayerContext& layer, const Rows& h, Out inner) const {
  const Executor& executor = layer.executor;
  const int64_t columns = inner.columns;
  const Matrix both = executor.allocate(inner.rows, 2 * columns);
  const Matrix up = executor.allocate(inner.rows, columns);
  up_.apply(executor, h, both);
  executor.copy(both.view().column_range(0, columns), inner);
  executor.copy(both.view().column_range(columns, columns), up);
  executor.activate(layer.config.activation, inner, up);
}

}  // namespace qwb
