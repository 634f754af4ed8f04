#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tools/common/progress_display.h"

namespace qwb {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

// A display on a simulated clock whose output is kept.
struct Simulated {
  double now = 100;
  std::string written;
  int columns = 100;
  ProgressDisplay display;
  explicit Simulated(bool terminal, bool quiet = false)
      : display({.name = "t",
                 .terminal = terminal,
                 .quiet = quiet,
                 .color = false,
                 .clock = [this] { return now; },
                 .write = [this](const std::string& text) { written += text; },
                 .width = [this] { return columns; }}) {}
  void work(int units, double seconds_each) {
    for (int i = 0; i < units; ++i) {
      now += seconds_each;
      display.advance(1, "");
    }
  }
};

TEST(ProgressDisplay, PlainLinesAtMostEveryFiveSeconds) {
  Simulated s(false);
  s.display.begin("job", 100);
  s.work(100, 0.2);  // 20 s: lines after 2, 7, 12 and 17 s, and the end
  s.display.end();
  EXPECT_EQ(s.written,
            "t: job:  10% 10/100  5.00/s  ETA 18.0 s\n"
            "t: job:  35% 35/100  5.00/s  ETA 13.0 s\n"
            "t: job:  60% 60/100  5.00/s  ETA 8.0 s\n"
            "t: job:  85% 85/100  5.00/s  ETA 3.0 s\n"
            "t: job: 100 in 20.0 s, 5.00/s\n");
}

TEST(ProgressDisplay, ShortTasksLeaveNoTrace) {
  Simulated s(false);
  s.display.begin("job", 100);
  s.work(100, 0.01);
  s.display.end();
  EXPECT_EQ(s.written, "");
  Simulated quiet(false, true);
  quiet.display.begin("job", 100);
  quiet.work(100, 1);
  quiet.display.note("text");
  quiet.display.end();
  EXPECT_EQ(quiet.written, "");
}

TEST(ProgressDisplay, RateFollowsTheRecentSpeed) {
  Simulated s(false);
  s.display.begin("job", 1000);
  s.work(100, 0.1);  // 10/s for 10 s
  s.work(100, 1);    // 1/s for 100 s: the rate has forgotten the beginning
  s.written.clear();
  s.now += 5;
  s.display.advance(5, "");
  EXPECT_THAT(s.written, HasSubstr("1.0"));
  EXPECT_THAT(s.written, HasSubstr("/s  ETA 13:"));  // 795 left
}

TEST(ProgressDisplay, TheBarIsRedrawnNotRepeatedAndClearedForNotes) {
  Simulated s(true);
  s.display.begin("job", 10);
  s.work(5, 0.5);
  EXPECT_THAT(s.written,
              HasSubstr("\rjob [############............]  50% 5/10  2.00/s  ETA 3.0 s\x1b[K"));
  s.written.clear();
  s.display.note("careful");
  EXPECT_EQ(s.written.find("\r\x1b[Kt: careful\n\rjob ["), 0u);
  s.written.clear();
  s.display.suspend([&] { s.written += "data\n"; });
  EXPECT_EQ(s.written.find("\r\x1b[Kdata\n\rjob ["), 0u);
  s.written.clear();
  s.now += 0.01;
  s.display.advance(1, "");  // too soon to draw
  EXPECT_EQ(s.written, "");
  s.display.end();
  EXPECT_THAT(s.written, EndsWith("t: job: 6 in 2.5 s, 2.39/s\n"));
}

TEST(ProgressDisplay, ANarrowTerminalLosesTheBarThenTheTail) {
  Simulated s(true);
  s.columns = 20;
  s.display.begin("job", 10);
  s.work(5, 0.5);
  EXPECT_THAT(s.written, EndsWith("\rjob  50% 5/10  2.0…\x1b[K"));
}

TEST(ProgressDisplay, UnknownTotals) {
  Simulated s(false);
  s.display.begin("job", 0);
  s.work(8, 1);
  EXPECT_EQ(s.written, "t: job: 2  1.00/s\nt: job: 7  1.00/s\n");
}

TEST(ProgressDisplay, ThreadsMayAdvance) {
  Simulated s(false);
  s.display.begin("job", 400);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) s.display.advance(1, "x");
    });
  }
  for (auto& thread : threads) thread.join();
  s.now += 10;
  s.display.advance(0, "x");
  EXPECT_THAT(s.written, HasSubstr("400/400"));
}

}  // namespace
}  // namespace qwb
