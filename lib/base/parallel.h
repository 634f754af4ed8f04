// Parallel loops over independent items. Which thread takes which item never changes a result: an
// item owns its outputs.
#pragma once

#include <cstdint>
#include <functional>

#include "lib/base/context.h"

namespace qwb {

// Makes the threads now, while there is nothing to lose: where the system refuses one later,
// libgomp ends the process at once. Takes fewer where it gives fewer (ulimit -v, -u); returns how
// many there are.
Threads start_threads(Threads wanted);

// Calls body(0..count-1), each once, in any order, on so many threads. An exception leaves after
// the loop has ended (the one of the lowest item, so that it does not depend on timing when several
// items fail); items not yet begun are skipped. Nested calls run in the calling thread. OpenMP's
// threads serve nothing else: libraries are called from inside items, single-threaded.
void parallel_for(Threads threads, int64_t count, const std::function<void(int64_t)>& body);
// The same, and items not yet begun are skipped once a stop is requested; then throws interrupted.
void parallel_for(const Context& context, int64_t count, const std::function<void(int64_t)>& body);

// The same over ranges [begin, end) of at most `grain` items; the ranges do not depend on the
// number of threads.
void parallel_ranges(Threads threads, int64_t count, int64_t grain,
                     const std::function<void(int64_t, int64_t)>& body);
void parallel_ranges(const Context& context, int64_t count, int64_t grain,
                     const std::function<void(int64_t, int64_t)>& body);

}  // namespace qwb
