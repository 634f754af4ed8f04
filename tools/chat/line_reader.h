// Lines that a person types: edited by libedit where the build has it, else by the terminal.
#pragma once

#include <memory>
#include <string>

#include "tools/chat/terminal_input.h"

namespace qwb {

struct TypedLine {
  enum class Kind {
    text,
    interrupted,  // Ctrl-C; `text` is what was typed so far, as far as it is known
    end,          // Ctrl-D at an empty line, or a terminal that is gone
  };
  Kind kind = Kind::text;
  std::string text;     // without its line end; of a paste with line ends inside
  bool pasted = false;  // holds a paste of more than one line
};

class LineReader {
 public:
  virtual ~LineReader() = default;
  // `begun`: what the line begins with; a reader that cannot edit leaves it out.
  virtual TypedLine read(const std::string& prompt, const std::string& begun) = 0;
  virtual bool edits() const = 0;
  // For the keys that go back to earlier lines.
  virtual void remember(const std::string& text) = 0;
};

// The input must outlive it.
std::unique_ptr<LineReader> make_line_reader(TerminalInput& input, Tool& tool);
std::unique_ptr<LineReader> make_plain_reader(TerminalInput& input, Tool& tool);

}  // namespace qwb
