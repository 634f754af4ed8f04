#include "lib/model/tape/taped_mlp.h"

namespace qwb {

TapedMlp::TapedMlp(const MlpSpec& spec, const TensorSource& source, const Executor& executor)
    : up_(spec.up, source, executor), down_(spec.down, source, executor), fused_(spec.fused) {
  if (!spec.gate.empty()) gate_.emplace(spec.gate.front(), source, executor);
}

std::vector<TapedLinear*> TapedMlp::linears() {
  std::vector<TapedLinear*> all;
  if (gate_) all.push_back(&*gate_);
  all.push_back(&up_);
  all.push_back(&down_);
  return all;
}

void TapedMlp::forward(const LayerContext& layer, const TapeRows& rows, In h, MlpTape& tape) const {
  const Executor& executor = layer.executor;
  const int64_t columns = down_.spec().in;
  const bool gated = gate_ || fused_;
  tape.gate = executor.allocate(h.rows, columns);
  tape.inner = executor.allocate(h.rows, columns);
  if (gated) tape.up = executor.allocate(h.rows, columns);
  if (fused_) {
    const Matrix both = executor.allocate(h.rows, 2 * columns);
    tape.up_inner = up_.forward(executor, rows, h, both);
    executor.copy(both.view().column_range(0, columns), tape.gate);
    executor.copy(both.view().column_range(columns, columns), tape.up);
  } else if (gate_) {
    tape.gate_inner = gate_->forward(executor, rows, h, tape.gate);
    tape.up_inner = up_.forward(executor, rows, h, tape.up);
  } else {
    tape.up_inner = up_.forward(executor, rows, h, tape.gate);
  }
  executor.copy(tape.gate, tape.inner);
  if (gated) {
    executor.activate(layer.config.activation, tape.inner, tape.up);
  } else {
    executor.activate(layer.config.activation, tape.inner);
  }
}

void TapedMlp::back(const LayerContext& layer, const TapeRows& rows, In h, const MlpTape& tape,
                    Out dinner, Out dh, Accumulate accumulate) const {
  const Executor& executor = layer.executor;
  const TrainingOps& ops = executor.training();
  const Activation activation = layer.config.activation;
  if (!gate_ && !fused_) {
    ops.activate_back(activation, tape.gate, In(), dinner, dinner, Out());
    return up_.back(executor, rows, h, tape.up_inner, dinner, dh, accumulate);
  }
  const int64_t columns = dinner.columns;
  const Matrix dup = executor.allocate(dinner.rows, columns);
  ops.activate_back(activation, tape.gate, tape.up, dinner, dinner, dup);
  if (gate_) {
    gate_->back(executor, rows, h, tape.gate_inner, dinner, dh, accumulate);
    return up_.back(executor, rows, h, tape.up_inner, dup, dh, Accumulate::yes);
  }
  const Matrix both = executor.allocate(dinner.rows, 2 * columns);
  executor.copy(dinner, both.view().column_range(0, columns));
  executor.copy(dup, both.view().column_range(columns, columns));
  up_.back(executor, rows, h, tape.up_inner, both, dh, accumulate);
}

}  // namespace qwb
