// Evaluates one model after the other with the same text and settings; what they share (the unquantized
// model's figures) is made once.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "lib/base/progress.h"
#include "lib/evaluate/energy/energy.h"
#include "lib/evaluate/quality.h"
#include "lib/evaluate/record.h"
#include "lib/evaluate/subject.h"
#include "lib/model/int8_forward.h"

namespace qwb {

struct EvaluationOptions {
  QualityOptions quality;
  bool speed = false;
  bool energy = false;       // of the speed's work and of the perplexity's
  Int8Forward int8_forward;  // of int8 modules
  int64_t repetitions = 5;   // of the speed measurement
  EnergyOptions energy_options;
};

class Evaluation {
 public:
  // Throws usage for an unknown protocol or settings that make no sense.
  Evaluation(EvaluationOptions options, Progress& progress);
  // Measures one folder. Throws Error if nothing of it could be measured, usage if LLM.int8's forward pass
  // was asked for and the folder has no int8 modules; what was measured of other folders stays. What failed
  // beside measurements that did not is in the record's problems.
  EvaluationRecord run(const Path& folder);

 private:
  // True if the model ran.
  bool measure(const Subject& subject, EvaluationRecord& record);
  void stop_energy(EvaluationRecord& record, const std::string& work, int64_t tokens);

  EvaluationOptions options_;
  Progress& progress_;
  std::unique_ptr<Backend> int8_;  // null: the fast one
  std::unique_ptr<EnergyMeter> meter_;
  Quality quality_;
};

}  // namespace qwb
