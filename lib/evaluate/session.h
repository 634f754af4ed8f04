// Evaluates one model after the other with the same text and settings. Work that they share (the
// unquantized model's figures) is done once.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/evaluate/cost_record.h"
#include "lib/evaluate/options.h"
#include "lib/evaluate/quality.h"
#include "lib/evaluate/record.h"
#include "lib/evaluate/subject.h"

namespace qwb {

class Evaluation {
 public:
  // Throws usage for an unknown protocol or settings that make no sense.
  Evaluation(EvaluationOptions options, const Context& context);
  // An artifact's original may be any of these folders (originals.h).
  // Speed and energy are measured of all folders in turns (speed.h, energy_rounds.h): name them
  // before the first run. A folder that cannot be opened is reported by its own run. Models that do
  // not fit into half of the memory together are timed one after the other: their pages would drive
  // each other out.
  void prepare(const std::vector<Path>& folders);
  // Measures one folder. Throws Error if nothing of it could be measured, usage if LLM.int8's
  // forward pass was asked for and the folder has no int8 modules; measurements of other folders
  // stay. Single measurements that failed are listed in the record's problems.
  EvaluationRecord run(const Path& folder);

 private:
  // True if the model ran.
  bool measure(const Subject& subject, EvaluationRecord& record);

  // session_costs.cpp. Finished figures are kept where quality's are: options_.quality.keeper.
  Json speed_key(const Subject& subject) const;
  Json energy_key(const Subject& subject) const;
  std::optional<Json> known(const Json& key) const;
  void keep(const Json& key, const Json& value) const;
  SpeedResult speed_of(const Subject& subject);
  void speed_in_turns(const std::vector<Subject>& subjects, const std::vector<std::string>& names);
  bool measure_speed_of(const Subject& subject, EvaluationRecord& record);
  void measure_energy_of(const Subject& subject, EvaluationRecord& record);
  bool energy_may_be_known() const;
  void measure_energies(const std::vector<const Model*>& models,
                        const std::vector<std::string>& folders);
  void begin_perplexity_energy(const std::string& artifact);
  void end_perplexity_energy(EvaluationRecord& record, int64_t tokens);
  void account_memory(const Subject& subject, EvaluationRecord& record) const;

  EvaluationOptions options_;
  Context context_;
  std::shared_ptr<const Executor> executor_;
  std::unique_ptr<EnergyMeter> meter_;
  std::map<std::string, SpeedResult> speeds_;   // by folder, measured in turns
  std::map<std::string, EnergyCost> energies_;  // by folder
  CpuMoment perplexity_begin_;                  // of its energy
  IdleBaseline idle_;                           // before the first work of all
  int64_t kv_tokens_ = 0;                       // of the run at work
  bool peak_reset_ = false;                     // likewise
  Quality quality_;
};

}  // namespace qwb
