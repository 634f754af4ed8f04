// Operands of the processor's operations: in the host's memory, and dense where rows may not be
// apart.
#pragma once

#include <stdexcept>

#include "lib/tensor/matrix.h"

namespace qwb {

template <class T>
T* on_host(const MatView<T>& operand) {
  if (operand.device != nullptr) throw std::logic_error("an operand lies on another device");
  return operand.data;
}

template <class T>
T* dense(const MatView<T>& operand) {
  if (!operand.dense()) throw std::logic_error("the rows of an operand are apart");
  return on_host(operand);
}

}  // namespace qwb
