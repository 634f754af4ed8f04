// How much memory the machine can still give.
#pragma once

#include <cstdint>

#include "lib/base/file.h"

namespace qwb {

// Bytes that this process may allocate without swapping: the smaller of the kernel's available
// memory (without /proc: free memory) and what the limits of its control groups leave
// (control_groups.h). `root`: for tests.
int64_t available_memory(const Path& root = "/");

}  // namespace qwb
