#include "lib/quantize/pipeline.h"

#include <algorithm>
#include <chrono>

#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"
#include "lib/kernels/dequantize.h"
#include "lib/quantize/block_calibration.h"
#include "lib/quantize/module_weight.h"

namespace qwb {
namespace {

// Hands results over and keeps the clock.
class Worker {
 public:
  Worker(const Model& model, const Method& method, const Settings& settings, ModuleSink& sink,
         Progress& progress)
      : model_(model), method_(method), settings_(settings), sink_(sink), progress_(progress) {}

  // Quantizes one module; returns its tensor for those that go on with it.
  ModuleResult work(const PlannedModule& planned, const Moments* moments) {
    check_interrupt();
    const auto start = std::chrono::steady_clock::now();
    const auto tensor = model_.source().find(planned.info.name + ".weight");
    if (!tensor) throw Error(ErrorKind::not_found, "tensor '" + planned.info.name + ".weight' is missing");
    ModuleResult result = method_.quantize({planned.info, *tensor, moments}, settings_);
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
  const Method& method_;
  const Settings& settings_;
  ModuleSink& sink_;
  Progress& progress_;
};

// The planned modules of one stage of one block.
std::vector<const PlannedModule*> stage_modules(const Plan& plan, int64_t block, Stage stage) {
  std::vector<const PlannedModule*> found;
  for (const PlannedModule& module : plan.modules) {
    if (module.block == block && module.stage == stage) found.push_back(&module);
  }
  return found;
}

void release_module(const Model& model, const PlannedModule& module) {
  if (const auto tensor = model.source().find(module.info.name + ".weight")) model.source().release(*tensor);
}

// The original weights of a block are read again and again until it is done.
void release_block(const Model& model, const Plan& plan, int64_t index) {
  for (const PlannedModule& module : plan.modules) {
    if (module.block == index) release_module(model, module);
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

void quantize_calibrated(const Model& model, const Plan& plan, const CalibrationSet& calibration, bool follow,
                         Worker& worker, ModuleSink& sink) {
  ResidualStream stream(model, calibration);
  std::optional<ResidualStream> reference;
  if (follow) reference.emplace(model, calibration);
  for (int64_t index = 0; index < model.config().layers; ++index) {
    BlockCalibration block(model, index, stream, reference ? &*reference : nullptr);
    for (const Stage stage : kStages) {
      const std::vector<const PlannedModule*> modules = stage_modules(plan, index, stage);
      const bool centred = follow && std::all_of(modules.begin(), modules.end(),
                                                 [](const PlannedModule* m) { return m->info.bias; });
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
}

}  // namespace

Plan plan_modules(const Model& model, const Method& method, const Settings& settings) {
  Plan plan;
  for (int64_t index = 0; index < model.config().layers; ++index) {
    const Block block(model.config(), model.spec().blocks[static_cast<size_t>(index)], index, model.source(),
                      model.backend());
    for (const Stage stage : kStages) {
      for (const LinearSpec* linear : block.linears(stage)) {
        const Weight& weight = block.weight(linear->module);
        if (!weight.is_dense()) {
          throw Error(ErrorKind::usage, "the module is quantized already", linear->module,
                      "start from the original checkpoint");
        }
        PlannedModule module;
        module.info = {linear->module,
                       linear->out,
                       linear->in,
                       linear->orientation,
                       std::get<DenseWeight>(weight.storage).values.dtype,
                       linear->bias};
        module.block = index;
        module.stage = stage;
        module.storage = method.storage(module.info, settings);
        plan.weights += linear->out * linear->in;
        plan.bytes += module.storage.bytes();
        plan.modules.push_back(std::move(module));
      }
    }
  }
  return plan;
}

void quantize_model(const Model& model, const Method& method, const Settings& settings, const Plan& plan,
                    const CalibrationSet* calibration, ModuleSink& sink, Progress& progress) {
  if (method.needs_calibration() != (calibration != nullptr)) {
    throw Error(ErrorKind::usage,
                "method " + method.name() +
                    (calibration == nullptr ? " needs a calibration set" : " takes no calibration set"));
  }
  Worker worker(model, method, settings, sink, progress);
  progress.begin("quantize " + method.name(), plan.weights);
  if (calibration != nullptr) {
    quantize_calibrated(model, plan, *calibration, method.wants_reference(settings), worker, sink);
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
  return kProgram + module_bytes + calibration_memory(model, *calibration, true);
}

}  // namespace qwb
