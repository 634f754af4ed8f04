// Marks errors of the baseline, the model that another one is compared with.
#pragma once

#include "lib/base/error.h"

namespace qwb {

// Runs `work` and returns its result. Its errors, except for an interruption, are prefixed by "the
// baseline: ".
template <class Work>
auto of_baseline(const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    throw Error(error.kind(), error.what(), "the baseline");
  }
}

}  // namespace qwb
