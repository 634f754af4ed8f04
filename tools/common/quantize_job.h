// From a request to an artifact: the checkpoint, the calibration set, the cache key, the work, the
// folder.
#pragma once

#include <optional>
#include <string>

#include "cache/store.h"
#include "formats/registry.h"
#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/model/model.h"
#include "lib/quantize/calibration.h"
#include "lib/quantize/estimate.h"
#include "lib/quantize/pipeline.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

struct QuantizeRequest {
  Path model;
  PlanRequest plan;
  // Used if the plan needs it. No sources: the demo text. Length 0: the model's context, at most
  // 2048.
  CalibrationRequest calibration;
  bool calibration_flags = false;  // somebody said how windows are to be made
  bool chat_template = false;
};

// Where a run keeps its activations, and what that costs.
struct MemoryPlan {
  int64_t peak = 0;     // bytes of memory at the peak, mapped weights included
  int64_t scratch = 0;  // bytes of activations on disk
  Path kept_scratch, stream_scratch;
};

struct WriteOptions {
  bool replace = false;    // what is at the folder
  MemoryPlan memory = {};  // from memory_plan()
  Path journal =
      {};  // folder for the progress of a calibrated run (run_journal.h); empty: none is kept
};

// Everything known before the work begins.
class QuantizeJob {
 public:
  // Opens and checks the model, plans, makes the calibration set. Tells decisions through
  // `context`. Throws what these throw.
  QuantizeJob(QuantizeRequest request, const Context& context);

  const Path& model_folder() const { return request_.model; }
  const Plan& plan() const { return plan_; }
  const Model& model() const { return *model_; }
  const CalibrationSet* calibration() const { return calibration_ ? &*calibration_ : nullptr; }
  // Bytes of the artifact's tensors, those that stay as they are included.
  int64_t artifact_bytes() const;
  // Within `limit` bytes of memory (0: what is free now): activations that do not fit go to files
  // in `scratch`. Throws failed if the rest does not fit either, or if the disk is too small.
  MemoryPlan memory_plan(int64_t limit, const Path& scratch) const;
  // What the work will take, measured on a part of the first block.
  double estimate_seconds(const Context& context) const {
    return qwb::estimate_seconds(*model_, plan_, calibration(), context);
  }
  Key key(const Context& context) const;

  // Writes the artifact into `folder` (absent or empty).
  void write(const Path& folder, const Context& context, const WriteOptions& options = {}) const;

 private:
  void calibrate(const Context& context);
  CalibrationSet new_calibration_set(const Tokenizer& tokenizer, const Context& context);
  Json manifest(const Context& context) const;

  QuantizeRequest request_;
  OpenModel open_;
  std::unique_ptr<Model> model_;
  Plan plan_;
  std::optional<CalibrationSet> calibration_;
};

}  // namespace qwb
