// Where the answer of one model leaves that of another.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lib/jobs/chat/chat_model.h"

namespace qwb {

// The first token that differs between two greedy answers to the same prompt.
struct Departure {
  int64_t index = 0;  // of the token, from 0
  // What the first model took and what the other did.
  int32_t base_token = 0, other_token = 0;
  std::string base_text, other_text;  // of the tokens, "<end>" for one that ends the text
  // Of both, at this place, by the first model.
  double base_probability = 0, other_probability = 0;
};

struct Comparison {
  std::optional<Departure> departure;
  int64_t equal = 0;   // tokens before it; without one, all that both made
  std::string reason;  // why the two cannot be compared; empty: they were
};

// `base` and `other` must have answered last. Settings: those of both answers.
Comparison compare_answers(ChatModel& base, const Answer& base_answer, const ChatModel& other,
                           const Answer& other_answer, const ChatSettings& settings,
                           const StopToken& stop);

// "departs from llama at token 18: ' the' 41.2 % became ' a' 40.9 % (nearly even)". One line.
std::string comparison_text(const Comparison& comparison, const std::string& base_name);
Json comparison_json(const Comparison& comparison, const std::string& base_name);

}  // namespace qwb
