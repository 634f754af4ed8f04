#include "lib/base/interrupt.h"

#include <atomic>

#include "lib/base/error.h"

namespace qwb {
namespace {
std::atomic<bool> g_interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);
}  // namespace

void request_interrupt() {
  g_interrupted.store(true, std::memory_order_relaxed);
}
bool interrupt_requested() {
  return g_interrupted.load(std::memory_order_relaxed);
}
void check_interrupt() {
  if (interrupt_requested()) throw Error(ErrorKind::interrupted, "interrupted");
}
void clear_interrupt() {
  g_interrupted.store(false, std::memory_order_relaxed);
}

}  // namespace qwb
