// From a request to an artifact: the checkpoint, the calibration set, the cache key, the work, the folder.
#pragma once

#include <optional>
#include <string>

#include "cache/store.h"
#include "formats/registry.h"
#include "lib/base/file.h"
#include "lib/base/progress.h"
#include "lib/model/model.h"
#include "lib/quantize/calibration.h"
#include "lib/quantize/pipeline.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

struct QuantizeRequest {
  Path model;
  PlanRequest plan;
  // Used if the plan needs it. No sources: the demo text. Length 0: the model's context, at most 2048.
  CalibrationRequest calibration;
  bool calibration_flags = false;  // somebody said how windows are to be made
  bool chat_template = false;
};

// Everything known before the work begins.
class QuantizeJob {
 public:
  // Opens and checks the model, plans, makes the calibration set. Tells decisions through `progress`. Throws
  // what these throw.
  QuantizeJob(QuantizeRequest request, Progress& progress);

  const Path& model_folder() const { return request_.model; }
  const Plan& plan() const { return plan_; }
  const Model& model() const { return *model_; }
  const CalibrationSet* calibration() const { return calibration_ ? &*calibration_ : nullptr; }
  // Bytes of the artifact's tensors, those that stay as they are included.
  int64_t artifact_bytes() const;
  int64_t peak_memory() const { return estimate_peak_memory(*model_, plan_, calibration()); }
  Key key(const Store& store) const;

  // Writes the artifact into `folder` (absent or empty). Returns its qwb.json.
  void write(const Path& folder, Progress& progress, bool replace = false) const;

 private:
  void calibrate(Progress& progress);
  CalibrationSet new_calibration_set(const Tokenizer& tokenizer, Progress& progress);
  Json manifest() const;

  QuantizeRequest request_;
  OpenModel open_;
  std::unique_ptr<Model> model_;
  Plan plan_;
  std::optional<CalibrationSet> calibration_;
};

}  // namespace qwb
