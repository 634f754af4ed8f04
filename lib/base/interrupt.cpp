#include "lib/base/interrupt.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <vector>

#include "lib/base/error.h"

namespace qwb {
namespace {
std::atomic<bool> g_interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

// First signal: unwind cleanly at the next check_interrupt(). Second: the user is not willing to wait.
void on_signal(int) {
  if (interrupt_requested()) _exit(static_cast<int>(ErrorKind::interrupted));
  request_interrupt();
}

// Vector and matrix registers lie there too.
size_t signal_stack_size() {
  return static_cast<size_t>(std::max(sysconf(_SC_SIGSTKSZ), 64L << 10));
}
}  // namespace

void interrupt_on_signals() {
  static std::vector<char>& memory = *new std::vector<char>(signal_stack_size());  // until the very end
  stack_t stack{};
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = sigaltstack(&stack, nullptr) == 0 ? SA_ONSTACK : 0;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

void leave_signals_to_main_thread() {
  static thread_local bool done = false;
  if (done) return;
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&signals, signal);
  done = pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0;
}

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
