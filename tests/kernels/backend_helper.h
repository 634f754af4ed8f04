// Backends for tests that live as long as the program.
#pragma once

#include "lib/kernels/backend.h"

namespace qwb {

inline const Backend& reference_backend() {
  static const auto backend = make_backend(BackendKind::reference, Threads(1));
  return *backend;
}
inline const Backend& fast_backend() {
  static const auto backend = make_backend(BackendKind::fast, Threads());
  return *backend;
}
inline const Backend& bf16_backend() {
  static const auto backend = make_backend(BackendKind::bf16, Threads());
  return *backend;
}

}  // namespace qwb
