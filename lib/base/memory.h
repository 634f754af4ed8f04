// How much memory the machine can still give.
#pragma once

#include <cstdint>

namespace qwb {

// Bytes that this process may take without swapping: what the kernel calls available, and what the memory
// limits of its control groups (v2 and v1) leave. A very large number where neither can be read.
int64_t available_memory();

}  // namespace qwb
