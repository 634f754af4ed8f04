// How much memory the machine can still give.
#pragma once

#include <cstdint>

#include "lib/base/file.h"

namespace qwb {

// Bytes that this process may take without swapping: what the kernel calls available (without
// /proc: what is free), and what the memory limits of its control groups leave (control_groups.h).
// `root`: for tests.
int64_t available_memory(const Path& root = "/");

}  // namespace qwb
