// How much memory the machine can still give, and what a program's policy (process_policy.h) says
// of memory that is freed.
#pragma once

#include <cstdint>

#include "lib/base/file.h"

namespace qwb {

// Bytes that this process may allocate without swapping: the smaller of the kernel's available
// memory (without /proc: free memory) and what the limits of its control groups leave
// (control_groups.h). `root`: for tests.
int64_t available_memory(const Path& root = "/");

// Tells that much was freed and other things are allocated next. Does nothing unless the program's
// policy gives such memory back to the system.
void memory_phase_ended();
// Whether freed buffers wait for the next of their size.
bool large_buffers_are_reused();

}  // namespace qwb
