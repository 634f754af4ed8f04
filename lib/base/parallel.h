// Parallel loops over independent items. Which thread takes which item never changes a result: an
// item owns its outputs.
#pragma once

#include <cstdint>
#include <functional>

namespace qwb {

// Number of threads of parallel_for. Nothing else uses several threads: libraries are called from
// inside items, single-threaded.
void set_threads(int count);  // count >= 1; throws usage otherwise
int threads();
// Creates the threads now, before there is work to lose: if the system refuses one later, libgomp
// ends the process at once. Takes fewer where the system gives fewer (ulimit -v, -u); returns their
// number.
int start_threads();
// The processors this process may run on: affinity, cpusets, and the quotas of its control groups
// (a quota of
// 1.5 processors is 2 threads).
int available_processors();

// Calls body(0..count-1), each once, in any order, on up to threads() threads. An exception is
// rethrown after the loop has ended; items not yet begun are skipped. If several items fail it is
// that of the lowest, so that it does not depend on timing. Nested calls run in the calling thread.
void parallel_for(int64_t count, const std::function<void(int64_t)>& body);

// The same over ranges [begin, end) of at most `grain` items; the ranges do not depend on the
// number of threads.
void parallel_ranges(int64_t count, int64_t grain,
                     const std::function<void(int64_t, int64_t)>& body);

}  // namespace qwb
