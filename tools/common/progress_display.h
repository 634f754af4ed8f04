// A Progress for people, on stderr. On a terminal: one line that is redrawn (bar, percentage, rate,
// time left). Elsewhere: a plain line at most every 5 s, and nothing at all for a task that takes
// less than 2 s. Thread-safe.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "lib/base/progress.h"

namespace qwb {

class ProgressDisplay : public Progress {
 public:
  struct Settings {
    std::string name;       // of the tool, before notes
    bool terminal = false;  // redraw one line instead of printing lines
    bool quiet = false;     // say nothing
    bool color = false;
    std::function<double()> clock;                  // seconds; monotonic
    std::function<void(const std::string&)> write;  // to stderr, unbuffered
    std::function<int()> width;                     // columns of the terminal
  };
  // Real clock and stderr where a function is not given.
  explicit ProgressDisplay(Settings settings);
  ~ProgressDisplay() override;

  // Colour and silence are known only after the command line was read.
  void configure(bool quiet, bool color);

  void begin(const std::string& task, int64_t total) override;
  void advance(int64_t units, const std::string& detail) override;
  void end() override;
  void note(const std::string& text) override;

  // Runs `action` (other output to the terminal) with the bar out of the way.
  void suspend(const std::function<void()>& action);

 private:
  // Units per second, recent ones weighing more; 0 before anything is known.
  double rate() const;
  void clear_bar();
  void draw_bar(double now);
  void plain_line(double now);
  std::string figures(double now) const;
  void finish_task();

  Settings settings_;
  mutable std::mutex mutex_;
  std::string task_;  // empty: no task
  std::string detail_;
  int64_t total_ = 0;
  int64_t done_ = 0;
  double began_ = 0;
  double last_advance_ = 0;
  double last_output_ = 0;
  bool bar_visible_ = false;
  // Decayed sums of units and seconds: their quotient is the rate.
  double recent_units_ = 0;
  double recent_seconds_ = 0;
};

}  // namespace qwb
