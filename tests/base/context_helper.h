// Contexts for tests.
#pragma once

#include "lib/base/context.h"

namespace qwb {

inline Context context_on(int threads) {
  return {.threads = Threads(threads)};
}
inline Context context_telling(Progress& progress) {
  return {.progress = &progress};
}

}  // namespace qwb
