// What a model thinks before it answers, told apart from the answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qwb {

// How a model marks its reasoning: "<think>" and "</think>".
struct ReasoningTags {
  std::string open, close;
};
// Those that are known. A model uses a pair if its chat template or its vocabulary spells one of
// the two.
const std::vector<ReasoningTags>& known_reasoning_tags();

struct AnswerPart {
  bool reasoning = false;
  std::string text;
};

// Splits an answer that comes piece by piece; pieces may be cut anywhere. Reasoning stands at the
// beginning of the answer, or nowhere: a tag further on is text. Blanks around the tags belong to
// neither part.
class ReasoningSplitter {
 public:
  // `prompt`: the text before the answer, which may have opened the reasoning already.
  ReasoningSplitter(std::vector<ReasoningTags> tags, std::string_view prompt);

  // The parts that are certain now and were not before.
  std::vector<AnswerPart> push(std::string_view text);
  // What was held back, when no more text comes.
  std::vector<AnswerPart> finish();

 private:
  enum class State { beginning, reasoning, gap, answer };
  bool step(std::vector<AnswerPart>& parts);
  bool begin();
  bool think(std::vector<AnswerPart>& parts);

  std::vector<ReasoningTags> tags_;
  State state_ = State::beginning;
  std::string close_;  // what ends the reasoning
  std::string held_;
  bool said_ = false;  // some reasoning
};

}  // namespace qwb
