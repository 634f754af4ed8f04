// Parallel loops over independent items. Which thread takes which item never changes a result: an
// item owns its outputs.
#pragma once

#include <cstdint>
#include <functional>

namespace qwb {

// Number of threads for parallel_for and, through OpenMP, for nothing else: libraries are called
// from inside items, single-threaded.
void set_threads(int count);  // count >= 1; throws usage otherwise
int threads();
// Makes the threads now, while there is nothing to lose: where the system refuses one later,
// libgomp ends the process at once. Takes fewer where it gives fewer (ulimit -v, -u); returns how
// many there are.
int start_threads();
// The processors this process may run on: affinity, cpusets, and the quotas of its control groups
// (a quota of
// 1.5 processors is 2 threads).
int available_processors();

// Calls body(0..count-1), each once, in any order, on up to threads() threads. An exception leaves
// after the loop has ended (the one of the lowest item, so that it does not depend on timing when
// several items fail); items not yet begun are skipped. Nested calls run in the calling thread.
void parallel_for(int64_t count, const std::function<void(int64_t)>& body);

// The same over ranges [begin, end) of at most `grain` items; the ranges do not depend on the
// number of threads.
void parallel_ranges(int64_t count, int64_t grain,
                     const std::function<void(int64_t, int64_t)>& body);

}  // namespace qwb
