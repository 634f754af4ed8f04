#include "lib/base/threads.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>

#include "lib/base/control_groups.h"
#include "lib/base/error.h"

namespace qwb {
namespace {

// By the affinity, which a cpuset narrows as well. Machines beyond 1024 processors need a larger
// set.
int processors_by_affinity() {
  for (int size = CPU_SETSIZE; size <= (1 << 20); size *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(static_cast<size_t>(size)),
                                                               [](cpu_set_t* s) { CPU_FREE(s); });
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(size));
    if (set && sched_getaffinity(0, bytes, set.get()) == 0)
      return std::max(1, CPU_COUNT_S(bytes, set.get()));
    if (errno != EINVAL) break;
  }
  return std::max(1, omp_get_num_procs());
}

// Asked once: the answer costs a look into /sys.
int usual_threads() {
  static const int count = std::min(omp_get_max_threads(), available_processors());
  return count;
}

}  // namespace

int available_processors() {
  return std::min(processors_by_affinity(), processors_in_groups(control_groups()));
}

Threads::Threads() : count_(usual_threads()) {}

Threads::Threads(int count) : count_(count) {
  if (count < 1)
    throw Error(ErrorKind::usage,
                "the number of threads must be at least 1, not " + std::to_string(count));
}

}  // namespace qwb
