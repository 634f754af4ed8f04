// The text of an answer, token by token: nothing is given out that a later token could change or
// that could be the beginning of a stop string.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/chat/stop_strings.h"
#include "lib/serve/engine/job.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb::serve {

// Of valid UTF-8.
int64_t count_characters(std::string_view text);

class TextStream {
 public:
  // The decoder has to see the prompt, which decides whether the first word begins with a space.
  TextStream(StreamDecoder decoder, std::span<const int32_t> prompt, std::vector<std::string> stop);
  // What is final now and was not before.
  TextPiece push(ScoredToken token);
  // The rest. Nothing may be pushed afterwards, nor after a stop string.
  TextPiece finish();
  // Whether a stop string was found: the text ended before it. Of several the one that is complete
  // first counts, so that the cuts between tokens change nothing.
  bool stopped() const { return !stops_.found().empty(); }

 private:
  struct Waiting {
    ScoredToken token;
    int64_t begin = 0, end = 0;  // bytes of the whole text
    bool placed = false;         // begin and end are known
  };
  std::string take(const std::string& text);
  TextPiece release(std::string text, bool all);

  StreamDecoder decoder_;
  StopStrings stops_;
  int64_t decoded_ = 0, released_ = 0;  // bytes that came, and that were given out
  int64_t characters_ = 0;              // of all text so far
  std::deque<Waiting> waiting_;
};

}  // namespace qwb::serve
