#include "lib/base/process_policy.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "lib/base/interrupt.h"
#include "lib/base/memory.h"

namespace qwb {
namespace {

std::atomic<bool> g_trim{false};
std::atomic<bool> g_reuse{false};

void install_signals() {
  interrupt_on_signals();
  struct sigaction action {};
  action.sa_handler =
      SIG_IGN;  // writes fail with EPIPE or EFBIG instead: destructors still clean up
  for (const int signal : {SIGPIPE, SIGXFSZ}) sigaction(signal, &action, nullptr);
}

// Descriptors 0 to 2 that are closed would go to the next file that is opened, and notes into it. A
// handle that can neither be read nor written keeps their places: whoever uses one gets an error.
void hold_closed_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF && ::open("/", O_PATH) < 0) return;
  }
}

// OpenMP threads that wait for each other spin for milliseconds by default. On a machine that does
// other work as well, the spinning takes the processor from the very thread that is waited for:
// measured 20 times slower on two busy cores. Forty microseconds of spinning bridge the gaps inside
// a forward pass; then a thread sleeps.
void start_with_short_spins(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  if (::setenv("GOMP_SPINCOUNT", "3000", 1) == 0) ::execv("/proc/self/exe", argv);
  // Without /proc the program just goes on, with long spins.
}

void set_up_allocator() {
  // Large buffers go back to the system when they are freed. By default glibc raises this threshold
  // as it goes, and activations of many sizes then fragment its heap: quantizing SmolLM2 grew to
  // twice its working set.
  ::mallopt(M_MMAP_THRESHOLD, 4 << 20);
  // What is freed below that stays for the next window: giving it back and faulting it in again
  // took a sixth of the time of calibration.
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
  g_trim = true;
}

}  // namespace

void adopt_process_policy(char** argv) {
  hold_closed_descriptors();
  start_with_short_spins(argv);
  set_up_allocator();
  install_signals();
  keep_spare_descriptors();
}

void reuse_large_buffers() {
  g_reuse = true;
}

bool large_buffers_are_reused() {
  return g_reuse.load(std::memory_order_relaxed);
}

void memory_phase_ended() {
  if (g_trim.load(std::memory_order_relaxed)) ::malloc_trim(0);
}

}  // namespace qwb
