#include "lib/serve/engine/text_stream.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace qwb::serve {

int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

TextStream::TextStream(StreamDecoder decoder, std::span<const int32_t> prompt,
                       std::vector<std::string> stop)
    : decoder_(std::move(decoder)), stops_(std::move(stop)) {
  for (const int32_t token : prompt) decoder_.push(token);
}

TextPiece TextStream::push(ScoredToken token) {
  const int32_t id = token.token;
  waiting_.push_back({std::move(token)});
  return release(take(decoder_.push(id)), false);
}

TextPiece TextStream::finish() {
  std::string text = take(decoder_.finish());
  text += stops_.finish();
  return release(std::move(text), true);
}

// Tokens whose bytes waited for the rest of their character end with it. The text that is final.
std::string TextStream::take(const std::string& text) {
  if (text.empty()) return {};
  const int64_t begin = decoded_;
  decoded_ += std::ssize(text);
  for (Waiting& waiting : waiting_) {
    if (waiting.placed) continue;
    waiting = {std::move(waiting.token), begin, decoded_, true};
    waiting.token.offset = characters_;
  }
  characters_ += count_characters(text);
  std::string final_text = stops_.push(text);
  if (stopped()) {
    const int64_t last = released_ + std::ssize(final_text);
    std::erase_if(waiting_, [&](const Waiting& w) { return !w.placed || w.begin >= last; });
  }
  return final_text;
}

TextPiece TextStream::release(std::string text, bool all) {
  TextPiece piece;
  piece.text = std::move(text);
  released_ += std::ssize(piece.text);
  while (!waiting_.empty()) {
    Waiting& first = waiting_.front();
    if (!all && !stopped() && !(first.placed && first.end <= released_)) break;
    if (!first.placed) first.token.offset = characters_;
    piece.tokens.push_back(std::move(first.token));
    waiting_.pop_front();
  }
  return piece;
}

}  // namespace qwb::serve
