#include "lib/base/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "lib/base/bytes.h"
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

Threads start_threads(Threads wanted) {
  std::mutex gate;
  std::vector<std::thread> tried;
  int count = wanted.count();
  {
    const std::lock_guard closed(gate);  // all of them live at once
    try {
      while (static_cast<int>(tried.size()) + 1 < count)
        tried.emplace_back([&gate] { const std::lock_guard pass(gate); });
    } catch (const std::system_error&) {
      // one fewer than can be had: others need some
      count = std::max(1, static_cast<int>(tried.size()));
    }
  }
  for (std::thread& thread : tried) thread.join();
#pragma omp parallel num_threads(count)
  if (omp_get_thread_num() != 0) leave_signals_to_main_thread();
  return Threads(count);
}

namespace {

// stop: null where nobody stops the loop.
void run_items(Threads threads, const StopToken* stop, int64_t count,
               const std::function<void(int64_t)>& body) {
  if (count <= 0) return;
  if (count == 1 || omp_in_parallel() != 0) {
    for (int64_t i = 0; i < count; ++i) {
      if (stop != nullptr) stop->check();
      body(i);
    }
    if (stop != nullptr) stop->check();
    return;
  }
  FirstFailure failure;
  const int team = static_cast<int>(std::min<int64_t>(count, threads.count()));
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
  for (int64_t i = 0; i < count; ++i) {
    if (omp_get_thread_num() != 0) leave_signals_to_main_thread();
    if (failure.failed() || (stop != nullptr && stop->requested())) continue;
    try {
      body(i);
    } catch (...) {
      failure.keep(i);
    }
  }
  failure.rethrow();
  if (stop != nullptr) stop->check();
}

std::function<void(int64_t)> over_ranges(int64_t count, int64_t grain,
                                         const std::function<void(int64_t, int64_t)>& body) {
  return [=, &body](int64_t i) { body(i * grain, std::min(count, (i + 1) * grain)); };
}

}  // namespace

void parallel_for(Threads threads, int64_t count, const std::function<void(int64_t)>& body) {
  run_items(threads, nullptr, count, body);
}

void parallel_for(const Context& context, int64_t count, const std::function<void(int64_t)>& body) {
  run_items(context.threads, &context.stop, count, body);
}

void parallel_ranges(Threads threads, int64_t count, int64_t grain,
                     const std::function<void(int64_t, int64_t)>& body) {
  run_items(threads, nullptr, ceil_div(count, grain), over_ranges(count, grain, body));
}

void parallel_ranges(const Context& context, int64_t count, int64_t grain,
                     const std::function<void(int64_t, int64_t)>& body) {
  run_items(context.threads, &context.stop, ceil_div(count, grain),
            over_ranges(count, grain, body));
}

}  // namespace qwb
