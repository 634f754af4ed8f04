#include "tests/tools/terminal_helper.h"

#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <stdexcept>

#include "tests/tools/run_helper.h"

namespace qwb::testing {
namespace {

using TerminalClock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{60};

}  // namespace

TerminalRun::TerminalRun(const std::vector<std::string>& command,
                         const std::map<std::string, std::string>& environment) {
  const Program program(command, environment);
  winsize size{};
  size.ws_col = 100;
  size.ws_row = 24;
  child_ = forkpty(&terminal_, nullptr, nullptr, &size);
  if (child_ < 0) throw std::runtime_error("forkpty");
  if (child_ == 0) program.execute();
}

TerminalRun::~TerminalRun() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  close(terminal_);
}

void TerminalRun::type(const std::string& keys) const {
  size_t done = 0;
  while (done < keys.size()) {
    const ssize_t count = write(terminal_, keys.data() + done, keys.size() - done);
    if (count <= 0) throw std::runtime_error("the terminal takes no keys");
    done += static_cast<size_t>(count);
  }
}

// False at the end; waits for a moment at most.
bool TerminalRun::read_more() {
  pollfd fd{terminal_, POLLIN, 0};
  if (poll(&fd, 1, 100) <= 0) return true;
  std::array<char, 4096> piece{};
  const ssize_t count = read(terminal_, piece.data(), piece.size());
  if (count > 0) output_.append(piece.data(), static_cast<size_t>(count));
  return count > 0;
}

bool TerminalRun::see(const std::string& text) {
  const auto end = TerminalClock::now() + kPatience;
  bool more = true;
  while (true) {
    if (const size_t at = output_.find(text, seen_); at != std::string::npos) {
      seen_ = at + text.size();
      return true;
    }
    if (!more || TerminalClock::now() > end) return false;
    more = read_more();
  }
}

bool TerminalRun::see_more(size_t bytes) {
  const auto end = TerminalClock::now() + kPatience;
  while (output_.size() < seen_ + bytes) {
    if (!read_more() || TerminalClock::now() > end) return false;
  }
  seen_ = output_.size();
  return true;
}

int TerminalRun::end() {
  const auto end = TerminalClock::now() + kPatience;
  while (read_more() && TerminalClock::now() < end) {
  }
  if (TerminalClock::now() >= end) kill(child_, SIGKILL);
  int status = 0;
  waitpid(child_, &status, 0);
  child_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace qwb::testing
