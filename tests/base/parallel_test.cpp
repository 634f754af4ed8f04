// Loops look at their stop wherever they run: side by side, alone, or inside of another loop.
#include "lib/base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>

#include "lib/base/error.h"

namespace qwb {
namespace {

// The items that began before the loop ended with `interrupted`; -1 if it ended otherwise.
int begun_until_stopped(
    const std::function<void(const Context&, const std::function<void()>&)>& loop, int stop_at) {
  StopSource stop;
  const Context context{Threads(2), stop.token()};
  std::atomic<int> begun{0};
  const auto item = [&] {
    if (++begun == stop_at) stop.request();
  };
  if (stop_at == 0) stop.request();
  try {
    loop(context, item);
  } catch (const Error& error) {
    return error.kind() == ErrorKind::interrupted ? begun.load() : -1;
  }
  return -1;
}

TEST(Parallel, AStopEndsEveryKindOfLoop) {
  const auto one = [](const Context& context, const std::function<void()>& item) {
    parallel_for(context, 1, [&](int64_t) { item(); });
  };
  EXPECT_EQ(begun_until_stopped(one, 0), 0);
  EXPECT_EQ(begun_until_stopped(one, 1), 1);
  const auto many = [](const Context& context, const std::function<void()>& item) {
    parallel_ranges(context, 4000, 2, [&](int64_t, int64_t) { item(); });
  };
  EXPECT_EQ(begun_until_stopped(many, 0), 0);
  EXPECT_LE(begun_until_stopped(many, 1), 100);
  const auto nested = [](const Context& context, const std::function<void()>& item) {
    parallel_for(Threads(2), 2, [&](int64_t i) {
      if (i == 0) parallel_for(context, 1000, [&](int64_t) { item(); });
    });
  };
  EXPECT_EQ(begun_until_stopped(nested, 0), 0);
  EXPECT_EQ(begun_until_stopped(nested, 7), 7);
}

}  // namespace
}  // namespace qwb
