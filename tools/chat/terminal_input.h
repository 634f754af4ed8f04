// What a person types, byte by byte, and Ctrl-C between the bytes.
#pragma once

#include <string>

#include "tools/common/tool.h"

namespace qwb {

class TerminalInput {
 public:
  explicit TerminalInput(const Tool& tool) : tool_(tool) {}

  enum class Got {
    byte,
    interrupted,  // Ctrl-C, or a signal that ends the tool
    end,          // nothing more will come
  };
  // Waits for the next byte. A Ctrl-C that came before the call counts too.
  Got next(char& byte);
  // Comes before everything that is typed from now on.
  void push(const std::string& text) {
    waiting_ = text + waiting_.substr(given_);
    given_ = 0;
  }
  // Forgets what was typed but not read: it belonged to a line that Ctrl-C took away.
  void forget() {
    waiting_.clear();
    given_ = 0;
  }

 private:
  const Tool& tool_;
  std::string waiting_;
  size_t given_ = 0;  // bytes of it
};

// Pasted text comes between these two where the terminal was asked to say so (xterm's bracketed
// paste).
inline constexpr const char* kPasteBegin = "\x1b[200~";
inline constexpr const char* kPasteEnd = "\x1b[201~";
// What asks the terminal for them, or no more; empty for one that knows no such things.
std::string paste_marks(bool on);

// The bytes up to kPasteEnd, which is taken but not given; line ends become line feeds.
TerminalInput::Got read_paste(TerminalInput& input, std::string& text);

}  // namespace qwb
