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
    : decoder_(std::move(decoder)), stop_(std::move(stop)) {
  for (const int32_t token : prompt) decoder_.push(token);
}

TextPiece TextStream::push(ScoredToken token) {
  const int32_t id = token.token;
  waiting_.push_back({std::move(token)});
  take(decoder_.push(id));
  return release(false);
}

TextPiece TextStream::finish() {
  take(decoder_.finish());
  return release(true);
}

// Tokens whose bytes waited for the rest of their character end with it.
void TextStream::take(const std::string& text) {
  if (text.empty()) return;
  const int64_t begin = released_ + std::ssize(held_);
  for (Waiting& waiting : waiting_) {
    if (waiting.placed) continue;
    waiting = {std::move(waiting.token), begin, begin + std::ssize(text), true};
    waiting.token.offset = characters_;
  }
  characters_ += count_characters(text);
  held_ += text;
  cut();
}

void TextStream::cut() {
  size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stop_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos || at + stop.size() > end) continue;
    if (at + stop.size() == end && at > begin) continue;
    begin = at;
    end = at + stop.size();
  }
  if (begin == std::string::npos) return;
  held_.resize(begin);
  stopped_ = true;
  const int64_t last = released_ + std::ssize(held_);
  std::erase_if(waiting_, [&](const Waiting& w) { return !w.placed || w.begin >= last; });
}

// The longest end of the text that could begin a stop string.
size_t TextStream::held_back() const {
  size_t longest = 0;
  const std::string_view held = held_;
  for (const std::string& stop : stop_) {
    for (size_t size = std::min(stop.size() - 1, held.size()); size > longest; --size) {
      if (stop.starts_with(held.substr(held.size() - size))) longest = size;
    }
  }
  return longest;
}

TextPiece TextStream::release(bool all) {
  TextPiece piece;
  const size_t keep = all || stopped_ ? 0 : held_back();
  piece.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, piece.text.size());
  released_ += std::ssize(piece.text);
  while (!waiting_.empty()) {
    Waiting& first = waiting_.front();
    if (!all && !stopped_ && !(first.placed && first.end <= released_)) break;
    if (!first.placed) first.token.offset = characters_;
    piece.tokens.push_back(std::move(first.token));
    waiting_.pop_front();
  }
  return piece;
}

}  // namespace qwb::serve
