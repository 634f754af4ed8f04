// Backends for tests that live as long as the program.
#pragma once

#include <vector>

#include "lib/exec/executor.h"

namespace qwb {

inline const Executor& reference_executor() {
  static const auto executor = make_executor(ExecutorKind::reference, Threads(1));
  return *executor;
}
inline const Executor& fast_executor() {
  static const auto executor = make_executor(ExecutorKind::fast, Threads());
  return *executor;
}
inline const Executor& bf16_executor() {
  static const auto executor = make_executor(ExecutorKind::bf16, Threads());
  return *executor;
}

// A vector as rows of so many columns.
inline In rows_of(const std::vector<float>& values, int64_t columns) {
  return {values.data(), std::ssize(values) / columns, columns};
}
inline Out rows_of(std::vector<float>& values, int64_t columns) {
  return {values.data(), std::ssize(values) / columns, columns};
}

}  // namespace qwb
