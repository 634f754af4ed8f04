// Memory of this process as Linux counts it.
#pragma once

#include <cstdint>

#include "lib/base/file.h"

namespace qwb {

struct MemoryUse {
  int64_t peak = 0;       // VmHWM: most bytes resident since the start or the last reset
  int64_t resident = 0;   // VmRSS
  int64_t anonymous = 0;  // RssAnon: heap and stacks (activations, KV cache, scratch)
  int64_t file =
      0;  // RssFile: mapped files (weights); the system may take these pages back at any time
};
// Throws `failed` if a line is missing or not a number of kB.
MemoryUse memory_use(const Path& status = "/proc/self/status");

// Starts VmHWM again from the present size (proc(5), clear_refs). False where the system does not
// allow it.
bool reset_memory_peak(const Path& clear_refs = "/proc/self/clear_refs");

}  // namespace qwb
