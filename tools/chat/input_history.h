// What was typed in earlier conversations, for the keys that go back to it.
#pragma once

#include <string>
#include <vector>

#include "lib/base/file.h"

namespace qwb {

// qwb/chat_history in $XDG_STATE_HOME, else in ~/.local/state. Empty where neither is known.
Path history_file();

// A file of one JSON string a line, readable by its owner only.
class InputHistory {
 public:
  // An empty path keeps nothing. Reads what is there, the last thousand texts; lines that are
  // damaged are left out.
  explicit InputHistory(Path file);
  const std::vector<std::string>& texts() const { return texts_; }
  // Appends one at once: several conversations may do so beside each other. Throws failed where
  // that is impossible.
  void add(const std::string& text);

 private:
  void load();

  Path file_;
  std::vector<std::string> texts_;
};

}  // namespace qwb
