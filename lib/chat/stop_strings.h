// Texts that end an answer, looked for in a text that comes piece by piece.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qwb {

// Bytes are compared; pieces may be cut anywhere. What could be the beginning of a stop string is
// held back until it is known, and no more than that.
class StopStrings {
 public:
  // Throws usage for an empty one.
  explicit StopStrings(std::vector<std::string> stops);

  // The text that is certain now and was not before. Once a stop string is found: the rest before
  // it, and later nothing. Of several, the one that ends first counts; of those, the longest.
  std::string push(std::string_view text);
  // What was held back, when no more text comes.
  std::string finish();
  // The stop string that was found; empty: none so far.
  const std::string& found() const { return found_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::string found_;
};

}  // namespace qwb
