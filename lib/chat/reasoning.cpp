#include "lib/chat/reasoning.h"

#include <algorithm>
#include <utility>

namespace qwb {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

size_t first_ink(std::string_view text) {
  return std::min(text.find_first_not_of(kBlanks), text.size());
}

// The longest end of `text` that begins `word` and is not all of it.
size_t begun(std::string_view text, std::string_view word) {
  size_t size = std::min(text.size(), word.size() - 1);
  while (size > 0 && text.substr(text.size() - size) != word.substr(0, size)) --size;
  return size;
}

}  // namespace

const std::vector<ReasoningTags>& known_reasoning_tags() {
  static const std::vector<ReasoningTags> tags = {
      {"<think>", "</think>"},
      {"[THINK]", "[/THINK]"},
      {"<|START_THINKING|>", "<|END_THINKING|>"},
      {"<seed:think>", "</seed:think>"},
  };
  return tags;
}

ReasoningSplitter::ReasoningSplitter(std::vector<ReasoningTags> tags, std::string_view prompt)
    : tags_(std::move(tags)) {
  if (tags_.empty()) state_ = State::answer;
  prompt = prompt.substr(0, prompt.find_last_not_of(kBlanks) + 1);
  for (const ReasoningTags& pair : tags_) {
    if (!prompt.ends_with(pair.open)) continue;
    state_ = State::reasoning;
    close_ = pair.close;
  }
}

std::vector<AnswerPart> ReasoningSplitter::push(std::string_view text) {
  std::vector<AnswerPart> parts;
  held_ += text;
  while (step(parts)) {
  }
  return parts;
}

// True: the state has changed, and what is held may be told now.
bool ReasoningSplitter::step(std::vector<AnswerPart>& parts) {
  switch (state_) {
    case State::beginning:
      return begin();
    case State::reasoning:
      return think(parts);
    case State::gap:
      held_.erase(0, first_ink(held_));
      if (held_.empty()) return false;
      state_ = State::answer;
      return true;
    case State::answer:
      break;
  }
  if (!held_.empty()) parts.push_back({false, std::exchange(held_, {})});
  return false;
}

bool ReasoningSplitter::begin() {
  const std::string_view ink = std::string_view(held_).substr(first_ink(held_));
  bool open = ink.empty();
  for (const ReasoningTags& pair : tags_) {
    if (ink.starts_with(pair.open)) {
      held_ = std::string(ink.substr(pair.open.size()));
      close_ = pair.close;
      state_ = State::reasoning;
      return true;
    }
    open = open || pair.open.starts_with(ink);
  }
  if (open) return false;
  state_ = State::answer;
  return true;
}

bool ReasoningSplitter::think(std::vector<AnswerPart>& parts) {
  if (!said_) held_.erase(0, first_ink(held_));
  const size_t at = held_.find(close_);
  size_t certain = at != std::string::npos ? at : held_.size() - begun(held_, close_);
  // Blanks before the closing tag are told only once more reasoning follows them.
  certain = std::string_view(held_).substr(0, certain).find_last_not_of(kBlanks) + 1;
  if (certain > 0) {
    parts.push_back({true, held_.substr(0, certain)});
    said_ = true;
  }
  if (at == std::string::npos) {
    held_.erase(0, certain);
    return false;
  }
  held_.erase(0, at + close_.size());
  state_ = State::gap;
  return true;
}

std::vector<AnswerPart> ReasoningSplitter::finish() {
  std::vector<AnswerPart> parts;
  if (held_.empty() || state_ == State::gap) return parts;
  if (state_ == State::reasoning) {
    held_.erase(held_.find_last_not_of(kBlanks) + 1);
    if (!held_.empty()) parts.push_back({true, held_});
  } else {
    parts.push_back({false, held_});
  }
  held_.clear();
  return parts;
}

}  // namespace qwb
