// A tuning run: what a TuneJob is made of (tune_job.h). Set-up and plan stand in tune_job.cpp, the
// run in tune_run.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/open_model.h"
#include "lib/jobs/tune_job.h"
#include "lib/jobs/tune_template.h"
#include "lib/tune/trainer.h"
#include "lib/tune/tune_state.h"

namespace qwb {

// The most memory that this process has had, in 10^6 bytes.
double peak_megabytes();

class Tuning {
 public:
  Tuning(TuneRequest request, std::shared_ptr<const Executor> executor, const Context& context);

  const TunePlan& plan() const { return plan_; }
  Json plan_json() const;
  std::string sample() const { return marked_text(data_.train.documents.front(), *tokenizer_); }
  double estimate_seconds(const Context& context) const;
  Json run(const Context& context, const std::function<void(const Json&)>& record);

 private:
  void read_data(const Context& context);
  void tell_data(const DocumentSet& all, const Context& context) const;
  void plan_memory();
  Json identity(const Context& context) const;
  void go_on(TuneState& state, const Context& context);
  void save(const TuneState& state) const;
  void measure(TuneState& state, const Context& context,
               const std::function<void(const Json&)>& record);
  void step(TuneState& state, const Context& context,
            const std::function<void(const Json&)>& record);
  Adapter adapter() const;
  void write(const Path& folder, const Json& summary, const TuneState* state, bool replace,
             const Context& context) const;
  // Of a run that was asked to stop: writes the adapter so far, throws interrupted.
  [[noreturn]] void leave(const TuneState& state, bool replace, const Context& context) const;
  Json summary(const TuneState& state, bool whole) const;
  int64_t every(double epochs) const;

  TuneRequest request_;
  OpenModel open_;
  std::unique_ptr<TapedModel> model_;
  std::vector<LinearSpec> modules_;
  std::optional<Tokenizer> tokenizer_;
  TuneTemplate template_;
  HeldOut data_;
  TuneMachine machine_;
  TunePlan plan_;
  std::unique_ptr<Trainer> trainer_;
  // Of the run.
  Json identity_;
  Json best_ = nullptr, first_ = nullptr, last_ = nullptr;  // {step, loss, error, ...}
  std::vector<double> first_sums_;                          // of its documents
  int64_t worse_ = 0;                                       // measurements since the best one
  double seconds_ = 0;                                      // of all runs together
};

}  // namespace qwb
