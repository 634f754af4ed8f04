// What is told of an answer besides its text: speed, energy, how it ended.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "lib/base/json.h"
#include "lib/evaluate/energy/energy.h"
#include "lib/jobs/chat/chat_model.h"

namespace qwb {

// The energy of an answer, prompt and all: a figure, or why there is none.
struct AnswerEnergy {
  bool asked = false;
  std::optional<EnergyFigure> figure;
  std::string reason;
};

// Measures answers one by one.
class AnswerMeter {
 public:
  // estimates: also where nothing can be measured, by an estimate that says so. Watches the
  // counters for some seconds at most.
  AnswerMeter(const EnergyOptions& options, bool estimates);
  void start();
  AnswerEnergy stop();

 private:
  std::unique_ptr<EnergyMeter> meter_;  // null: nothing to measure with
  double least_ = 0;                    // seconds in which the counters make enough steps
};

// "12.3 J (rapl-powercap)", "~3.2 J (cpu-time-model)", "n/a (too short)"; empty if nobody asked.
std::string energy_text(const AnswerEnergy& energy);
// "128 tokens, 14.2 tokens/s, first after 0.31 s (57 prompt tokens, 0 kept), 12.3 J (...)"
std::string stats_text(const Answer& answer, const AnswerEnergy& energy);
// Why it ended, where a reader should know: "the context is full"; mostly empty.
std::string ending_text(const Answer& answer);
// All of that for programs, with the texts and the tokens.
Json answer_json(const Answer& answer, const AnswerEnergy& energy);

// Sums over a conversation.
struct ChatTotals {
  int64_t answers = 0, prompt_tokens = 0, reused_tokens = 0, tokens = 0;
  int64_t decoded = 0;  // tokens behind the first of each answer
  double prefill_seconds = 0, decode_seconds = 0;
  double joules = 0;
  int64_t measured = 0;  // answers whose joules are in the sum
  std::string method, quality;

  void add(const Answer& answer, const AnswerEnergy& energy);
  std::string text() const;
};

}  // namespace qwb
