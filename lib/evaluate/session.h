// Evaluates one model after the other with the same text and settings; what they share (tokens, the
// unquantized model's losses) is made once.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/progress.h"
#include "lib/evaluate/energy/energy.h"
#include "lib/evaluate/record.h"
#include "lib/evaluate/subject.h"
#include "lib/model/int8_forward.h"

namespace qwb {

struct EvaluationOptions {
  bool perplexity = true;
  bool speed = false;
  bool energy = false;    // of the work above
  bool baseline = true;   // compare with the unquantized model
  std::string text;       // for the perplexity
  std::string text_name;  // for errors
  PerplexityOptions protocol;
  Int8Forward int8_forward;  // of int8 modules
  int64_t repetitions = 5;   // of the speed measurement
  EnergyOptions energy_options;
};

class Evaluation {
 public:
  // Throws usage for an unknown protocol or settings that make no sense.
  Evaluation(EvaluationOptions options, Progress& progress);
  // Measures one folder. Throws Error, usage if LLM.int8's forward pass was asked for and the folder has no
  // int8 modules; what was measured of other folders stays.
  EvaluationRecord run(const Path& folder);

 private:
  const EncodedText& encoded(const Subject& subject);
  PerplexityResult perplexity_of(const Subject& subject);
  void measure(const Subject& subject, EvaluationRecord& record);
  void compare(const Subject& subject, EvaluationRecord& record);
  const PerplexityResult* baseline_of(const Subject& subject, EvaluationRecord& record);
  void stop_energy(EvaluationRecord& record, const std::string& work, int64_t tokens);

  EvaluationOptions options_;
  Progress& progress_;
  std::unique_ptr<Backend> int8_;  // null: the fast one
  std::unique_ptr<EnergyMeter> meter_;
  std::map<std::string, EncodedText> texts_;           // by tokenizer
  std::map<std::string, PerplexityResult> baselines_;  // by folder of the unquantized model
};

}  // namespace qwb
