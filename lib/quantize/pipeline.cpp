#include "lib/quantize/pipeline.h"

#include <algorithm>
#include <chrono>

#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/quantize/block_calibration.h"
#include "lib/quantize/model_ends.h"
#include "lib/quantize/module_weight.h"
#include "lib/quantize/output_error.h"

namespace qwb {
namespace {

using Role = PlannedModule::Role;

// Hands results over and keeps the clock.
class Worker {
 public:
  Worker(const Model& model, ModuleSink& sink, Progress& progress)
      : model_(model), sink_(sink), progress_(progress) {}

  // Quantizes one module; returns its tensor for those that go on with it.
  ModuleResult work(const PlannedModule& planned, const Moments* moments) {
    check_interrupt();
    const auto start = std::chrono::steady_clock::now();
    const auto tensor = model_.source().find(planned.info.name + ".weight");
    if (!tensor) throw Error(ErrorKind::not_found, "tensor '" + planned.info.name + ".weight' is missing");
    const ModuleTask task = {planned.info, *tensor, moments};
    ModuleResult result = planned.method->quantize(task, planned.settings);
    if (moments != nullptr && !result.output_error) result.output_error = output_error(task, result.tensor);
    ModuleReport report;
    report.name = planned.info.name;
    report.weights = planned.info.out * planned.info.in;
    report.bytes = planned.storage.bytes();
    report.weight_error = result.weight_error;
    report.output_error = result.output_error;
    report.details = result.details;
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    sink_.put(planned, result.tensor, report);
    progress_.advance(report.weights, planned.info.name);
    return result;
  }

 private:
  const Model& model_;
  ModuleSink& sink_;
  Progress& progress_;
};

// The planned modules of one stage of one block.
std::vector<const PlannedModule*> stage_modules(const Plan& plan, int64_t block, Stage stage) {
  std::vector<const PlannedModule*> found;
  for (const PlannedModule& module : plan.modules) {
    if (module.role == Role::linear && module.block == block && module.stage == stage)
      found.push_back(&module);
  }
  return found;
}

// The planned embedding of this role, or null.
const PlannedModule* find_embedding(const Plan& plan, Role role) {
  for (const PlannedModule& module : plan.modules) {
    if (module.role == role) return &module;
  }
  return nullptr;
}

bool wants_reference(const PlannedModule& module) {
  return module.method->wants_reference(module.settings);
}

void release_module(const Model& model, const PlannedModule& module) {
  if (const auto tensor = model.source().find(module.info.name + ".weight")) model.source().release(*tensor);
}

// The original weights of a block are read again and again until it is done.
void release_block(const Model& model, const Plan& plan, int64_t index) {
  for (const PlannedModule& module : plan.modules) {
    if (module.role == Role::linear && module.block == index) release_module(model, module);
  }
}

// Adds the shift to the module's bias, as the checkpoint's type holds it.
void shift_bias(const Model& model, const PlannedModule& planned, const std::vector<float>& shift,
                BlockCalibration& block, ModuleSink& sink) {
  const std::string name = planned.info.name + ".bias";
  const auto tensor = model.source().find(name);
  if (!tensor) throw Error(ErrorKind::not_found, "tensor '" + name + "' is missing");
  std::vector<float> bias = read_floats(*tensor, name);
  for (size_t i = 0; i < bias.size(); ++i) bias[i] += shift[i];
  const Tensor stored = narrow(bias, tensor->dtype, tensor->shape, name);
  block.shift_bias(planned.info.name, read_floats(stored.view(), name));
  sink.replace(name, stored.view());
}

void quantize_block(const Model& model, const Plan& plan, int64_t index, BlockCalibration& block,
                    Worker& worker, ModuleSink& sink) {
  for (const Stage stage : kStages) {
    const std::vector<const PlannedModule*> modules = stage_modules(plan, index, stage);
    // Without its mean an input serves only modules whose biases make up for it.
    const bool centred =
        !modules.empty() && std::all_of(modules.begin(), modules.end(), [](const PlannedModule* m) {
          return m->info.bias && wants_reference(*m);
        });
    const Moments& moments = block.observe(stage, centred);
    for (const PlannedModule* planned : modules) {
      const ModuleResult result = worker.work(*planned, &moments);
      block.replace(planned->info.name, result.tensor.view());
      if (!result.bias_shift.empty()) shift_bias(model, *planned, result.bias_shift, block, sink);
    }
  }
  block.finish();
  release_block(model, plan, index);
}

void quantize_calibrated(const Model& model, const Plan& plan, const CalibrationSet& calibration,
                         Worker& worker, ModuleSink& sink) {
  ResidualStream stream(model, calibration);
  std::optional<ResidualStream> reference;
  if (std::any_of(plan.modules.begin(), plan.modules.end(), wants_reference))
    reference.emplace(model, calibration);
  ResidualStream* original = reference ? &*reference : nullptr;
  if (const PlannedModule* lookup = find_embedding(plan, Role::lookup)) {
    const ModuleResult result = worker.work(*lookup, nullptr);
    embed_stream(model, calibration, result.tensor.view(), stream);
    release_module(model, *lookup);
  }
  for (int64_t index = 0; index < model.config().layers; ++index) {
    BlockCalibration block(model, index, stream, original);
    quantize_block(model, plan, index, block, worker, sink);
  }
  if (const PlannedModule* output = find_embedding(plan, Role::output)) {
    const OutputMoments moments(model, stream, original);
    worker.work(*output, &moments.moments());
    release_module(model, *output);
  }
}

}  // namespace

void quantize_model(const Model& model, const Plan& plan, const CalibrationSet* calibration, ModuleSink& sink,
                    Progress& progress) {
  if (plan.needs_calibration() != (calibration != nullptr)) {
    throw Error(ErrorKind::usage, calibration == nullptr ? "the plan needs a calibration set"
                                                         : "the plan takes no calibration set");
  }
  Worker worker(model, sink, progress);
  progress.begin("quantize " + plan.method_name(), plan.weights);
  if (calibration != nullptr) {
    quantize_calibrated(model, plan, *calibration, worker, sink);
  } else {
    for (const PlannedModule& planned : plan.modules) {
      worker.work(planned, nullptr);
      release_module(model, planned);
    }
  }
  progress.end();
}

int64_t estimate_peak_memory(const Model& model, const Plan& plan, const CalibrationSet* calibration) {
  int64_t largest = 0;
  for (const PlannedModule& module : plan.modules)
    largest = std::max(largest, module.info.out * module.info.in);
  // One module's weight: mapped, in f32, its working copy and its codes.
  const int64_t module_bytes = largest * 14;
  constexpr int64_t kProgram = 24 << 20;
  if (calibration == nullptr) return kProgram + module_bytes;
  const bool reference = std::any_of(plan.modules.begin(), plan.modules.end(), wants_reference);
  return kProgram + module_bytes + calibration_memory(model, *calibration, reference);
}

}  // namespace qwb
