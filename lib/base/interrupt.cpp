#include "lib/base/interrupt.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <ctime>
#include <memory>
#include <vector>

#include "lib/base/error.h"

namespace qwb {
namespace {
std::atomic<bool> g_interrupted{false};
std::atomic<bool> g_ending{false};      // a signal asked the process to end
std::atomic<bool> g_sigint_ends{true};  // SIGINT is such a signal
std::atomic<int64_t> g_first_ns{0};     // when the first signal came
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free);

// A terminal that closes and a service manager send several signals at once: they count as one.
constexpr int64_t kTogether = 100'000'000;  // ns

// Every signal that would end the process without a trace of an error in it.
std::vector<int> ending_signals() {
  std::vector<int> all = {SIGINT,  SIGTERM, SIGHUP,    SIGQUIT, SIGUSR1, SIGUSR2,  SIGALRM,
                          SIGXCPU, SIGPROF, SIGVTALRM, SIGIO,   SIGPWR,  SIGSTKFLT};
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) all.push_back(signal);
  return all;
}

int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // async-signal-safe
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// First signal: unwind cleanly at the next StopToken::check(). Second: the user is not willing to
// wait.
void on_signal(int signal) {
  if (signal == SIGINT && !g_sigint_ends.load(std::memory_order_relaxed)) {
    request_interrupt();
    return;
  }
  const int64_t now = monotonic_ns();
  if (!g_ending.load(std::memory_order_relaxed))
    g_first_ns.store(now, std::memory_order_relaxed);
  else if (now - g_first_ns.load(std::memory_order_relaxed) > kTogether)
    _exit(static_cast<int>(ErrorKind::interrupted));
  g_ending.store(true, std::memory_order_relaxed);
  request_interrupt();
}

// Vector and matrix registers lie there too.
size_t signal_stack_size() {
  return static_cast<size_t>(std::max(sysconf(_SC_SIGSTKSZ), 64L << 10));
}
}  // namespace

void interrupt_on_signals() {
  static std::vector<char>& memory =
      *new std::vector<char>(signal_stack_size());  // until the very end
  stack_t stack{};
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = sigaltstack(&stack, nullptr) == 0 ? SA_ONSTACK : 0;
  sigemptyset(&action.sa_mask);
  for (const int signal : ending_signals()) {
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    const bool always = signal == SIGINT || signal == SIGTERM;
    if (always || before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);
  }
}

void leave_signals_to_main_thread() {
  static thread_local bool done = false;
  if (done) return;
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : ending_signals()) sigaddset(&signals, signal);
  done = pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0;
}

void request_interrupt() {
  g_interrupted.store(true, std::memory_order_relaxed);
}
StopToken interrupt_token() {
  // The flag is never destroyed, so that nobody need own it.
  return StopToken({std::shared_ptr<void>(), &g_interrupted});
}
void let_sigint_only_interrupt() {
  g_sigint_ends.store(false, std::memory_order_relaxed);
}
bool end_requested() {
  return g_ending.load(std::memory_order_relaxed);
}
void forget_sigint() {
  g_interrupted.store(end_requested(), std::memory_order_relaxed);
}
void clear_interrupt() {
  g_ending.store(false, std::memory_order_relaxed);
  g_interrupted.store(false, std::memory_order_relaxed);
}

}  // namespace qwb
