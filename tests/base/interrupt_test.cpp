// Signals as requests to stop, on a stack of their own.
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <csignal>

#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace {

bool blocks_sigint() {
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  return sigismember(&blocked, SIGINT) == 1;
}

TEST(Interrupt, SignalsRunOnAStackOfTheirOwnAndAreTheMainThreads) {
  struct sigaction interrupt {
  }, terminate{};
  sigaction(SIGINT, nullptr, &interrupt);
  sigaction(SIGTERM, nullptr, &terminate);
  interrupt_on_signals();
  struct sigaction now {};
  for (const int signal : {SIGINT, SIGTERM}) {
    sigaction(signal, nullptr, &now);
    EXPECT_NE(now.sa_flags & SA_ONSTACK, 0);
  }
  stack_t stack{};
  ASSERT_EQ(sigaltstack(nullptr, &stack), 0);
  EXPECT_EQ(stack.ss_flags & SS_DISABLE, 0);
  EXPECT_GE(stack.ss_size, size_t{64} << 10);
  std::atomic<int> wrong{0};
  const pthread_t main_thread = pthread_self();
  parallel_for(Threads(3), 1000, [&](int64_t) {
    if (blocks_sigint() == (pthread_equal(pthread_self(), main_thread) != 0)) ++wrong;
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_FALSE(interrupt_token().requested());
  std::raise(SIGINT);
  EXPECT_TRUE(interrupt_token().requested());
  EXPECT_TRUE(end_requested());
  forget_sigint();
  EXPECT_TRUE(interrupt_token().requested());  // it ends the process
  clear_interrupt();
  EXPECT_FALSE(end_requested());
  sigaction(SIGINT, &interrupt, nullptr);
  sigaction(SIGTERM, &terminate, nullptr);
}

}  // namespace
}  // namespace qwb
