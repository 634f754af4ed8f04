// What every executor makes of its operations.
#include "lib/exec/executor.h"

#include <array>
#include <stdexcept>

#include "lib/base/error.h"
#include "lib/codec/dense.h"
#include "lib/exec/training.h"

namespace qwb {

Executor::Executor(Threads threads, const Device* device)
    : threads_(threads),
      device_(device),
      plain_training_(std::make_unique<const TrainingOps>(*this)) {}

Executor::~Executor() = default;

const CalibrationOps& Executor::calibration() const {
  throw Error(ErrorKind::unsupported, "calibration does not run on " + identity());
}

Matrix Executor::upload(std::span<const float> values, MemoryKind kind) const {
  Matrix matrix = allocate(1, std::ssize(values), kind);
  copy(In(values.data(), 1, std::ssize(values)), matrix);
  return matrix;
}

std::vector<float> Executor::download(In values) const {
  std::vector<float> on_host(static_cast<size_t>(values.count()));
  copy(values, Out(on_host.data(), values.rows, values.columns));
  return on_host;
}

Prepared Executor::prepare_values(In values) const {
  if (device_ != nullptr || !values.dense())
    throw std::logic_error("values are not dense, or lie where their executor takes none");
  const Bytes bytes = {reinterpret_cast<const std::byte*>(values.data),
                       static_cast<size_t>(values.count()) * sizeof(float)};
  return Prepared(
      Weight{values.rows, values.columns, Orientation::out_in,
             DenseWeight{TensorView{DType::f32, {values.rows, values.columns}, bytes}}});
}

std::optional<Prepared> Executor::prepare_rounded(const Weight& /*weight*/) const {
  return std::nullopt;
}

void Executor::mark_finite(In x, Out mark) const {
  fill(mark, all_finite(x) ? 1.0f : 0.0f);
}

void Executor::linears(const Rows& x, std::span<const Output> outputs) const {
  for (const Output& output : outputs) linear(x, output.module, output.y);
}

void Executor::gated(const Rows& x, const Affine* gate, const Affine& up, Activation activation,
                     Out y) const {
  if (gate == nullptr) {
    linear(x, up, y);
    activate(activation, y);
    return;
  }
  const Matrix factors = allocate(y.rows, y.columns);
  linears(x, std::array<Output, 2>{Output{*gate, y}, Output{up, factors}});
  activate(activation, y, factors);
}

}  // namespace qwb
