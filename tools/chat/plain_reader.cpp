// Lines as the terminal itself edits them.
#include <termios.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

#include "tools/chat/line_reader.h"

namespace qwb {
namespace {

// The terminal's own editing, but for two things: it shows no "^[" for the marks around pasted
// text, which it does not show either, and Ctrl-C leaves in its buffer what was typed, so that one
// can tell whether that was anything.
class LineEditing {
 public:
  LineEditing() {
    known_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (!known_) return;
    termios own = before_;
    own.c_lflag &= ~static_cast<tcflag_t>(ECHOCTL);
    own.c_lflag |= NOFLSH;
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &own);
  }
  ~LineEditing() {
    if (known_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }
  LineEditing(const LineEditing&) = delete;
  LineEditing& operator=(const LineEditing&) = delete;

  // Takes a line that was begun out of the terminal's buffer.
  std::string take_begun() const {
    if (!known_) return {};
    termios now{};
    ::tcgetattr(STDIN_FILENO, &now);
    termios at_once = now;
    at_once.c_lflag &= ~static_cast<tcflag_t>(ICANON);
    at_once.c_cc[VMIN] = at_once.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &at_once);
    std::array<char, 4096> begun{};
    const ssize_t count = ::read(STDIN_FILENO, begun.data(), begun.size());
    ::tcsetattr(STDIN_FILENO, TCSANOW, &now);
    return {begun.data(), count > 0 ? static_cast<size_t>(count) : 0};
  }

 private:
  termios before_{};
  bool known_ = false;
};

class PlainReader : public LineReader {
 public:
  PlainReader(TerminalInput& input, Tool& tool) : input_(input), tool_(tool) {}

  TypedLine read(const std::string& prompt, const std::string& /*begun*/) override {
    const LineEditing editing;
    tool_.print(paste_marks(true) + prompt);
    TypedLine line = take(editing);
    tool_.print(paste_marks(false) + (line.kind == TypedLine::Kind::text ? "" : "\n"));
    return line;
  }
  bool edits() const override { return false; }
  void remember(const std::string& /*text*/) override {}

 private:
  TypedLine take(const LineEditing& editing) {
    TypedLine line;
    while (true) {
      char byte = 0;
      TerminalInput::Got got = input_.next(byte);
      if (got == TerminalInput::Got::byte && byte == '\n') return line;
      if (got == TerminalInput::Got::byte) {
        line.text += byte;
        if (!std::string_view(line.text).ends_with(kPasteBegin)) continue;
        line.text.resize(line.text.size() - std::string_view(kPasteBegin).size());
        std::string pasted;
        got = read_paste(input_, pasted);
        line.text += pasted;
        line.pasted = line.pasted || pasted.find('\n') != std::string::npos;
        if (got == TerminalInput::Got::byte) continue;
      }
      if (got == TerminalInput::Got::interrupted) {
        input_.forget();
        line.kind = TypedLine::Kind::interrupted;
        line.text += editing.take_begun();
        return line;
      }
      line.kind = line.text.empty() ? TypedLine::Kind::end : TypedLine::Kind::text;
      return line;
    }
  }

  TerminalInput& input_;
  Tool& tool_;
};

}  // namespace

std::unique_ptr<LineReader> make_plain_reader(TerminalInput& input, Tool& tool) {
  return std::make_unique<PlainReader>(input, tool);
}

}  // namespace qwb
