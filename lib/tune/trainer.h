// Tunes low-rank factors beside a frozen model: steps of AdamW over a data set. What a step does is
// a function of model, data, settings and its number alone: a run that goes on from a saved state
// ends in the same bits, on any number of threads, whatever is recomputed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/adapt/adapter.h"
#include "lib/base/stop.h"
#include "lib/tune/batches.h"
#include "lib/tune/trained_module.h"

namespace qwb {

// What does not change bits.
struct TuneMachine {
  int64_t micro_tokens = 2048;  // that go through the model together
  int64_t kept_blocks = 1;      // the last ones, whose activations are not computed twice
};

struct StepRecord {
  int64_t step = 0;  // from 1 on
  double epoch = 0;  // behind it
  double loss = 0;   // mean over the weights of the step's targets, nats
  int64_t supervised = 0, tokens = 0;
  double rate = 0;
  double gradient_norm = 0;  // before it was clipped
  bool clipped = false;
};

struct HeldOutLoss {
  double loss = 0;   // mean a token that counts, nats
  double error = 0;  // its standard error over documents
  int64_t tokens = 0;
  std::vector<double> sums, counts;  // of each document: losses times weights, and weights
};

// How the mean went from one measurement of the same documents to another, and the standard error
// of that: documents differ among each other by far more than one document does before and after.
struct LossChange {
  double change = 0, error = 0;
};
LossChange loss_change(const std::vector<double>& sums_before, const HeldOutLoss& after);

// The modules that patterns choose, in the model's order; "all-linear": all. Throws usage, naming
// it and the nearest module, for a pattern that matches none.
std::vector<LinearSpec> tuned_modules(const std::vector<LinearSpec>& all,
                                      const std::vector<std::string>& patterns);

class Trainer {
 public:
  // Adds the factors to the model, which goes on with them. The data must outlive it.
  Trainer(TapedModel& model, const TuneSettings& settings, const std::vector<LinearSpec>& modules,
          const DocumentSet& train, const DocumentSet& held, const TuneMachine& machine);

  int64_t total_steps() const { return total_; }
  int64_t done_steps() const { return done_; }
  double epoch() const;
  int64_t values() const;  // of all factors

  // The next step. On an exception nothing has changed. Throws `failed` for a loss or a gradient
  // that is no number, and where after three steps a module's B is zero still; interrupted.
  StepRecord step(const StopToken& stop);
  // The loss on the documents that are held out, without dropout and noise.
  HeldOutLoss evaluate(const StopToken& stop) const;

  std::vector<AdapterModule> adapter_modules() const;
  std::vector<float> state() const;
  // Goes on behind that step. Throws `failed` for another size.
  void restore(const std::vector<float>& state, int64_t done_steps);

 private:
  // Those of the next step's documents, whose sums go to the record.
  void add_gradients(StepRecord& record, const StopToken& stop);
  void check_effect() const;

  TapedModel& model_;
  TuneSettings settings_;
  const DocumentSet& train_;
  const DocumentSet& held_;
  TuneMachine machine_;
  DocumentOrder order_;
  int64_t total_ = 0, done_ = 0;
  std::vector<std::unique_ptr<TrainedModule>> modules_;
};

}  // namespace qwb
