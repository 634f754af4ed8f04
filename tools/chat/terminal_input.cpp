#include "tools/chat/terminal_input.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace qwb {

TerminalInput::Got TerminalInput::next(char& byte) {
  while (given_ == waiting_.size()) {
    // Signals come only while it waits: none can slip in between the look and the wait. Another
    // thread may still take one, so it looks again now and then.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool stopped = tool_.context().stop.requested();
    pollfd terminal{STDIN_FILENO, POLLIN, 0};
    const timespec pause{1, 0};
    const int ready = stopped ? 0 : ::ppoll(&terminal, 1, &pause, &before);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (tool_.context().stop.requested()) return Got::interrupted;
    if (ready <= 0) continue;
    std::array<char, 4096> piece{};
    const ssize_t count = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) return Got::end;
    waiting_.assign(piece.data(), static_cast<size_t>(count));
    given_ = 0;
  }
  byte = waiting_[given_++];
  return Got::byte;
}

std::string paste_marks(bool on) {
  const char* term = std::getenv("TERM");
  if (term == nullptr || std::string_view(term) == "dumb") return {};
  return on ? "\x1b[?2004h" : "\x1b[?2004l";
}

TerminalInput::Got read_paste(TerminalInput& input, std::string& text) {
  text.clear();
  const std::string_view end = kPasteEnd;
  while (!std::string_view(text).ends_with(end)) {
    char byte = 0;
    const TerminalInput::Got got = input.next(byte);
    if (got != TerminalInput::Got::byte) return got;
    text += byte;
  }
  text.resize(text.size() - end.size());
  // Terminals send the return key's carriage return for every line end.
  std::string lines;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    lines += text[i] == '\r' ? '\n' : text[i];
  }
  text = std::move(lines);
  return TerminalInput::Got::byte;
}

}  // namespace qwb
