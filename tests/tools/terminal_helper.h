// A program on a terminal of its own, and a person who types.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace qwb::testing {

class TerminalRun {
 public:
  // The environment as in RunOptions. The terminal has 100 columns.
  TerminalRun(const std::vector<std::string>& command,
              const std::map<std::string, std::string>& environment);
  ~TerminalRun();  // kills what still runs
  TerminalRun(const TerminalRun&) = delete;
  TerminalRun& operator=(const TerminalRun&) = delete;

  void type(const std::string& keys) const;
  // Waits for a text behind everything that was waited for before. False after a minute, or if the
  // program ends without it.
  bool see(const std::string& text);
  // Waits for so many bytes behind that.
  bool see_more(size_t bytes);
  // Waits for the end: the exit code, or 128 + the signal.
  int end();
  // All that came so far.
  const std::string& output() const { return output_; }

 private:
  bool read_more();

  pid_t child_ = -1;
  int terminal_ = -1;
  std::string output_;
  size_t seen_ = 0;
};

}  // namespace qwb::testing
