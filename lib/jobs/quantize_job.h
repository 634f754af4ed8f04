// From a request to an artifact: the checkpoint, the calibration set, the cache key, the work, the
// folder. `quantize` does all of it; QuantizeJob tells first what is to come.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cache/store.h"
#include "formats/loaded_model.h"
#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/outputs.h"
#include "lib/exec/devices.h"
#include "lib/quantize/calibrate/calibration.h"
#include "lib/quantize/plan/plan.h"

namespace qwb {

struct Provenance;

struct QuantizeRequest {
  Path model = {};  // folder of a checkpoint (sources.h: of a name on the Hub)
  PlanRequest plan = {};
  // Used if the plan needs it. No sources: the demo text. Length 0: the model's context, at most
  // 2048.
  CalibrationRequest calibration = {};
  bool calibration_flags = false;  // somebody said how windows are to be made
  bool chat_template = false;
  // Besides the cache, or without one: where the artifact goes, in which format (null: as it is),
  // and whether what is there is replaced.
  std::optional<Path> place = {};
  const ModelFormat* format = nullptr;
  bool replace = false;
  // A repair adapter (lib/adapt/repair.h) of this rank, written into the folder `repair` beside the
  // artifact at `place`; such a run neither looks into the cache nor keeps anything there. 0: none.
  int64_t repair_rank = 0;
  Path repair = {};
  // What calibration runs on; the choice leaves nothing open (choose_device()). Methods without
  // calibration work on the processor, with the same bits.
  DeviceChoice device = {};
  // What the model was made of, for qwb.json, where it lies in no folder (lib/jobs/merge_job.h).
  Json made_of = nullptr;
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

struct BuildOptions {
  int64_t max_memory = 0;  // bytes; 0: what is free
  bool resume = true;      // go on where an interrupted run of the same work ended
};

// An artifact in the cache, which keeps it there as long as the lease lives.
struct CachedArtifact {
  Path folder;
  Key key;
  bool cached = false;  // it was there already
  std::shared_ptr<const FileLock> lease;
};

// The artifact of a run: in the cache, or at request.place if there is no cache or no other format.
struct MadeArtifact {
  Path folder;
  std::optional<CachedArtifact> kept;  // of a run with a cache
};

// Everything known before the work begins.
class QuantizeJob {
 public:
  // Opens and checks the model, plans, makes the calibration set. Tells decisions through
  // `context`. Throws what these throw, and unsupported if the format cannot hold what is planned.
  QuantizeJob(QuantizeRequest request, const Context& context);
  // Of a model that is open: request.model tells its companions' place.
  QuantizeJob(OpenModel open, QuantizeRequest request, const Context& context);

  const Path& model_folder() const { return request_.model; }
  const OpenModel& source() const { return loaded_.open; }
  const Plan& plan() const { return plan_; }
  const Model& model() const { return *loaded_.model; }
  const CalibrationSet* calibration() const { return calibration_ ? &*calibration_ : nullptr; }
  // Bytes of the artifact's tensors, those that stay as they are included.
  int64_t artifact_bytes() const;
  // Within `limit` bytes of memory (0: what is free now): activations that do not fit go to files
  // in `scratch`. Throws failed if the rest does not fit either, or if the disk is too small.
  MemoryPlan memory_plan(int64_t limit, const Path& scratch) const;
  // Where those files go: to the disk that the artifact goes to anyway; /tmp is memory on many
  // machines.
  Path scratch_folder(const Store* store) const;
  // What the work will take, measured on a part of the first block.
  double estimate_seconds(const Context& context) const;
  Key key(const Context& context) const;

  // Writes the calibration set, for other runs; a file with the same tokens is as good as written.
  // Throws usage for another set's file unless outputs.force(), and if there is no set. only_check:
  // nothing is written.
  void save_calibration(const Path& file, Outputs& outputs, bool only_check,
                        const Context& context) const;
  // build(), and a copy or conversion at request.place; without a store into request.place alone.
  MadeArtifact run(const Store* store, const BuildOptions& options, const Context& context) const;
  // The artifact from the cache, made if it is not there. A calibrated run keeps its progress in
  // the cache's folder "resume"; what nobody came back to for 30 days is removed. Throws what
  // memory_plan, write and Store::build throw.
  CachedArtifact build(const Store& store, const BuildOptions& options,
                       const Context& context) const;
  // Writes the artifact into `folder` (absent or empty).
  void write(const Path& folder, const Context& context, const WriteOptions& options = {}) const;

 private:
  void calibrate(const Context& context);
  CalibrationSet new_calibration_set(const Tokenizer& tokenizer, const Context& context);
  Provenance provenance(const Context& context) const;

  QuantizeRequest request_;
  LoadedModel loaded_;
  Plan plan_;
  std::optional<CalibrationSet> calibration_;
};

// All of it: opens the model, plans, calibrates, and makes the artifact in `store` or finds it
// there.
CachedArtifact quantize(QuantizeRequest request, const Store& store, const BuildOptions& options,
                        const Context& context);

}  // namespace qwb
