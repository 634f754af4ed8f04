// Quantizing a whole model block by block. Only the block being worked on is in memory, with the
// calibration activations; each finished module is handed over at once. With calibration, every
// module sees the inputs that the already quantized modules before it produce (true-sequential:
// q/k/v, then o, then gate/up, then down), and a block runs forward once (twice where a method
// follows the original model as well).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/model/model.h"
#include "lib/quantize/calibrate/block_calibration.h"
#include "lib/quantize/calibrate/calibration.h"
#include "lib/quantize/method.h"
#include "lib/quantize/plan/plan.h"

namespace qwb {

struct ModuleReport {
  std::string name;
  int64_t weights = 0;
  int64_t bytes = 0;
  double weight_error = 0;
  std::optional<double> output_error;  // with calibration, whatever the method
  double seconds = 0;
  Json details;
};

// Receives finished modules, one at a time, in plan order; without calibration from a thread of its
// own.
class ModuleSink {
 public:
  virtual ~ModuleSink() = default;
  virtual void put(const PlannedModule& module, const QuantizedTensor& tensor,
                   const ModuleReport& report) = 0;
  // A tensor of the checkpoint that is no module's weight (a bias) gets other values, of the same
  // type and shape.
  virtual void replace(const std::string& tensor, const TensorView& values) = 0;
};

// How a run goes on after an interruption: it is told what every finished block leaves behind.
class RunState {
 public:
  virtual ~RunState() = default;
  // Blocks that an earlier run finished, with the lookups before them: their modules were put
  // already.
  virtual int64_t finished_blocks() const = 0;
  // Fills the streams as they were after these blocks. reference: null if the plan follows no
  // original.
  virtual void restore(ResidualStream& stream, ResidualStream* reference) = 0;
  // The first `blocks` blocks are done and their modules put.
  virtual void save(int64_t blocks, const ResidualStream& stream,
                    const ResidualStream* reference) = 0;
};

struct RunOptions {
  // Folders for activations that do not fit into memory; empty: they stay in memory. First those
  // kept between two input groups of a block, then the residual streams.
  Path kept_scratch = {};
  Path stream_scratch = {};
  RunState* state = nullptr;  // null: starts from the beginning, saves nothing
  // Sees every module that has moments, with its result, before it is put; or empty.
  std::function<void(const ModuleTask& task, const ModuleResult& result)> made = nullptr;
};

// calibration: null exactly when the plan needs none. Modules without need of it are quantized at
// their place, so that those behind them see what they make. Throws `failed` naming the module on
// NaN or Inf; interrupted.
void quantize_model(const Model& model, const Plan& plan, const CalibrationSet* calibration,
                    ModuleSink& sink, const Context& context, const RunOptions& options = {});

}  // namespace qwb
