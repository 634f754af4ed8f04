#include "lib/base/parallel.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/control_groups.h"
#include "lib/base/error.h"
#include "lib/base/interrupt.h"

namespace qwb {
namespace {

// Keeps the exception of the lowest failing item.
class FirstFailure {
 public:
  void keep(int64_t item) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (item < item_) {
      item_ = item;
      exception_ = std::current_exception();
    }
    failed_.store(true, std::memory_order_relaxed);
  }
  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr exception_;
  int64_t item_ = std::numeric_limits<int64_t>::max();
  std::atomic<bool> failed_{false};
};

}  // namespace

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

}  // namespace

int available_processors() {
  return std::min(processors_by_affinity(), processors_in_groups(control_groups()));
}

void set_threads(int count) {
  if (count < 1)
    throw Error(ErrorKind::usage,
                "the number of threads must be at least 1, not " + std::to_string(count));
  omp_set_num_threads(count);
}

int threads() {
  return omp_get_max_threads();
}

int start_threads() {
  std::mutex gate;
  std::vector<std::thread> tried;
  const int wanted = threads();
  {
    const std::lock_guard closed(gate);  // all of them live at once
    try {
      while (static_cast<int>(tried.size()) + 1 < wanted)
        tried.emplace_back([&gate] { const std::lock_guard pass(gate); });
    } catch (const std::system_error&) {
      set_threads(std::max(
          1, static_cast<int>(tried.size())));  // one fewer than can be had: others need some
    }
  }
  for (std::thread& thread : tried) thread.join();
#pragma omp parallel num_threads(threads())
  if (omp_get_thread_num() != 0) leave_signals_to_main_thread();
  return threads();
}

void parallel_for(int64_t count, const std::function<void(int64_t)>& body) {
  if (count <= 0) return;
  if (count == 1 || omp_in_parallel() != 0) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  FirstFailure failure;
#pragma omp parallel for schedule(dynamic, 1) \
    num_threads(static_cast <int>(std::min <int64_t>(count, threads())))
  for (int64_t i = 0; i < count; ++i) {
    if (omp_get_thread_num() != 0) leave_signals_to_main_thread();
    if (failure.failed() || interrupt_requested()) continue;
    try {
      body(i);
    } catch (...) {
      failure.keep(i);
    }
  }
  failure.rethrow();
  check_interrupt();
}

void parallel_ranges(int64_t count, int64_t grain,
                     const std::function<void(int64_t, int64_t)>& body) {
  parallel_for(ceil_div(count, grain),
               [&](int64_t i) { body(i * grain, std::min(count, (i + 1) * grain)); });
}

}  // namespace qwb
