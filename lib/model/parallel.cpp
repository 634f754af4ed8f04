#include "lib/model/parallel.h"

namespace qwb {

Parallel::Parallel(const ModelConfig& config, const ParallelSpec& spec, const TensorSource& source,
                   const Executor& executor)
    : attention_(config, spec.attention, source, executor),
      mlp_norm_(spec.mlp_norm, config.hidden, source, executor),
      mlp_(spec.mlp, source, executor) {}

std::vector<Linear*> Parallel::linears() {
  std::vector<Linear*> all = attention_.linears();
  for (Linear* linear : mlp_.linears()) all.push_back(linear);
  return all;
}

std::vector<const Norm*> Parallel::norms() const {
  std::vector<const Norm*> all = attention_.norms();
  all.push_back(&mlp_norm_);
  return all;
}

Matrix Parallel::mlp_input(const LayerContext& layer, In x, In h) const {
  Matrix own = layer.executor.allocate(x.rows, x.columns);
  if (mlp_norm_.empty()) {
    layer.executor.copy(h, own);
  } else {
    mlp_norm_.apply(layer, x, own);
  }
  return own;
}

void Parallel::input(const LayerContext& layer, const InputGroup& group, In x, In h,
                     const Batch& batch, Out input) const {
  switch (group.part) {
    case InputGroup::Part::entry:
      return layer.executor.copy(h, input);
    case InputGroup::Part::attended:
      return attention_.inner(layer, h, batch, input);
    case InputGroup::Part::mlp_entry:
      return layer.executor.copy(mlp_input(layer, x, h), input);
    case InputGroup::Part::mlp_inner:
      return mlp_.inner(layer, batch.rows(mlp_input(layer, x, h)), input);
  }
}

void Parallel::forward(const LayerContext& layer, In x, In h, const Batch& batch, Out out) const {
  const Executor& executor = layer.executor;
  const Matrix attended = executor.allocate(x.rows, attention_.closing().spec.in);
  attention_.inner(layer, h, batch, attended);
  attention_.closing().apply(executor, batch.rows(attended), out);
  const Matrix own = mlp_input(layer, x, h);
  const Matrix inner = executor.allocate(x.rows, mlp_.closing().spec.in);
  mlp_.inner(layer, batch.rows(own), inner);
  mlp_.closing().apply(executor, batch.rows(inner), out, Accumulate::yes);
}

}  // namespace qwb
