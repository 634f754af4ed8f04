// Evaluates one model after the other with the same text and settings; what they share (tokens, the
// unquantized model's losses) is made once.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/progress.h"
#include "lib/evaluate/energy_rounds.h"
#include "lib/evaluate/record.h"
#include "lib/evaluate/subject.h"
#include "lib/model/int8_forward.h"

namespace qwb {

struct EvaluationOptions {
  bool perplexity = true;
  bool speed = false;
  bool energy = false;    // of the work above
  bool fresh = false;     // measure again what an earlier run measured
  bool baseline = true;   // compare with the unquantized model
  std::string text;       // for the perplexity
  std::string text_name;  // for errors
  PerplexityOptions protocol;
  Int8Forward int8_forward;  // of int8 modules
  SpeedOptions speed_options;
  EnergyOptions energy_options;
  EnergyPlan energy_plan;
  Path results;         // folder of what earlier runs measured (result_cache.h); empty: none are kept
  Path memo;            // of Checkpoint::content_hash
  std::string version;  // of this program, for records
};

// Where a folder lies, whatever it was called.
std::string real_path(const Path& folder);

class Evaluation {
 public:
  // Throws usage for an unknown protocol or settings that make no sense.
  Evaluation(EvaluationOptions options, Progress& progress);
  // Energy is measured of all folders in turns (energy_rounds.h): tell them before the first run. A folder
  // that cannot be opened is left to its run to complain about.
  void prepare(const std::vector<Path>& folders);
  // Measures one folder. Throws Error, usage if LLM.int8's forward pass was asked for and the folder has no
  // int8 modules; what was measured of other folders stays.
  EvaluationRecord run(const Path& folder);

 private:
  const EncodedText& encoded(const Subject& subject);
  PerplexityResult perplexity_of(const Subject& subject);
  void measure(const Subject& subject, EvaluationRecord& record);
  void compare(const Subject& subject, EvaluationRecord& record);
  const PerplexityResult* baseline_of(const Subject& subject, EvaluationRecord& record);

  // session_costs.cpp
  Json speed_key(const Subject& subject) const;
  Json energy_key(const Subject& subject) const;
  std::optional<Json> known(const Json& key) const;
  void keep(const Json& key, const Json& value);
  void measure_speed_of(const Subject& subject, EvaluationRecord& record);
  void measure_energy_of(const Subject& subject, EvaluationRecord& record);
  bool energy_may_be_known() const;
  void begin_perplexity_energy(const std::string& artifact);
  void end_perplexity_energy(EvaluationRecord& record);
  void account_memory(const Subject& subject, EvaluationRecord& record);

  EvaluationOptions options_;
  Progress& progress_;
  std::unique_ptr<Backend> int8_;  // null: the fast one
  std::unique_ptr<EnergyMeter> meter_;
  std::map<std::string, EnergyCost> energies_;         // by folder
  int64_t kv_tokens_ = 0;                              // of the run at work
  bool peak_reset_ = false;                            // likewise
  std::map<std::string, EncodedText> texts_;           // by tokenizer
  std::map<std::string, PerplexityResult> baselines_;  // by folder of the unquantized model
};

}  // namespace qwb
