// Runs a program and captures what a user would see.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace qwb::testing {

struct RunOptions {
  std::map<std::string, std::string> environment =
      {};  // added to this process's; an empty value removes the variable
  std::string stdin_path = "/dev/null";
  int64_t file_size_limit = -1;  // bytes that a file may have (RLIMIT_FSIZE): a disk that fills up
  std::string stdout_path = {};  // send stdout there (say /dev/full) instead of capturing it
  bool close_stdout_early = false;  // the reader of stdout goes away at once
  bool terminal_stderr = false;     // stderr is a terminal of 100 columns
  std::vector<int> signals =
      {};  // sent one by one, each after `ready` (or a pause) was seen on stderr
  std::string ready = {};
  double timeout = 120;  // seconds; then SIGKILL
};

struct RunResult {
  int code = -1;    // exit code; 128 + n when killed by signal n
  std::string out;  // stdout
  std::string err;  // stderr
};

// What becomes of a child after fork. All memory is taken before: in the child of a process with
// threads (a test's server) the heap's lock may be held by a thread that does not exist there.
class Program {
 public:
  // The environment as in RunOptions.
  Program(std::vector<std::string> command, const std::map<std::string, std::string>& environment);
  Program(const Program&) = delete;  // its pointers lead into it
  Program& operator=(const Program&) = delete;
  [[noreturn]] void execute() const;  // exit code 127 where that fails

 private:
  std::vector<std::string> command_, environment_;
  std::vector<char*> arguments_, variables_;
};

RunResult run(const std::vector<std::string>& command, const RunOptions& options = {});

// Ctrl-C as soon as `seen` is on stderr, a terminal: its bar shows at once what plain lines tell
// only after seconds, when a fast machine may be done.
RunOptions interrupted_at(const std::string& seen);

// The lines of `text`, without their newlines.
std::vector<std::string> lines(const std::string& text);

}  // namespace qwb::testing
