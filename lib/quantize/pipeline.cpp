#include "lib/quantize/pipeline.h"

#include <algorithm>
#include <chrono>

#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/matmul.h"
#include "lib/quantize/block_calibration.h"
#include "lib/quantize/output_error.h"

namespace qwb {
namespace {

constexpr int64_t kOutputBatch = 8192;  // tokens whose final hidden states are held at once

// Hands results over and keeps the clock.
class Worker {
 public:
  Worker(const Model& model, ModuleSink& sink, Progress& progress)
      : model_(model), sink_(sink), progress_(progress) {}

  // Quantizes one module; returns its tensor for those that go on with it.
  QuantizedTensor work(const PlannedModule& planned, const Moments* moments) {
    check_interrupt();
    const auto start = std::chrono::steady_clock::now();
    const auto tensor = model_.source().find(planned.info.name + ".weight");
    if (!tensor) throw Error(ErrorKind::not_found, "tensor '" + planned.info.name + ".weight' is missing");
    const ModuleTask task = {planned.info, *tensor, moments};
    ModuleResult result = planned.method->quantize(task, planned.settings);
    if (moments != nullptr && !result.output_error) result.output_error = output_error(task, result.tensor);
    model_.source().release(*tensor);
    ModuleReport report;
    report.name = planned.info.name;
    report.weights = planned.info.out * planned.info.in;
    report.bytes = planned.storage.bytes();
    report.weight_error = result.weight_error;
    report.output_error = result.output_error;
    report.details = std::move(result.details);
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    sink_.put(planned, result.tensor, report);
    progress_.advance(report.weights, planned.info.name);
    return std::move(result.tensor);
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
    const bool linear = module.role == PlannedModule::Role::linear;
    if (linear && module.block == block && module.stage == stage) found.push_back(&module);
  }
  return found;
}

// The stream then begins at the embeddings as they will be stored.
void quantize_lookup(const Model& model, const Plan& plan, const CalibrationSet& calibration,
                     ResidualStream& stream, Worker& worker) {
  for (const PlannedModule& planned : plan.modules) {
    if (planned.role != PlannedModule::Role::lookup) continue;
    const QuantizedTensor tensor = worker.work(planned, nullptr);
    const Weight embedding = tensor.view();
    parallel_for(stream.windows(), [&](int64_t w) {
      model.embed(calibration.windows[static_cast<size_t>(w)], 0, embedding, stream.window(w));
    });
  }
}

// Second moments of what the final norm makes of the stream: the inputs of the output embedding.
FloatBuffer output_moments(const Model& model, const ResidualStream& stream) {
  const int64_t hidden = model.config().hidden, length = stream.length();
  const int64_t batch = std::clamp<int64_t>(kOutputBatch / length, 1, stream.windows());
  FloatBuffer hessian(hidden * hidden), inputs(batch * length * hidden);
  std::fill_n(hessian.data(), hessian.size(), 0.0f);
  for (int64_t first = 0; first < stream.windows(); first += batch) {
    check_interrupt();
    const int64_t count = std::min(batch, stream.windows() - first);
    parallel_for(count, [&](int64_t i) {
      float* input = inputs.data() + i * length * hidden;
      model.final_norm(stream.window(first + i), length, input);
      if (!model.backend().all_finite(input, length * hidden))
        throw Error(ErrorKind::failed, "NaN or Inf in the output of the last block");
    });
    add_moments(inputs.data(), count * length, hidden, hessian.data());
  }
  return hessian;
}

void quantize_output(const Model& model, const Plan& plan, const ResidualStream& stream, Worker& worker) {
  for (const PlannedModule& planned : plan.modules) {
    if (planned.role != PlannedModule::Role::output) continue;
    const FloatBuffer hessian = output_moments(model, stream);
    const Moments moments = {hessian.data(), stream.windows() * stream.length()};
    worker.work(planned, &moments);
  }
}

void quantize_calibrated(const Model& model, const Plan& plan, const CalibrationSet& calibration,
                         Worker& worker) {
  ResidualStream stream(model, calibration);
  quantize_lookup(model, plan, calibration, stream, worker);
  for (int64_t index = 0; index < model.config().layers; ++index) {
    BlockCalibration block(model, index, stream);
    for (const Stage stage : kStages) {
      const Moments moments = block.observe(stage);
      for (const PlannedModule* planned : stage_modules(plan, index, stage)) {
        const QuantizedTensor tensor = worker.work(*planned, &moments);
        block.replace(planned->info.name, tensor.view());
      }
    }
    block.finish();
  }
  quantize_output(model, plan, stream, worker);
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
    quantize_calibrated(model, plan, *calibration, worker);
  } else {
    for (const PlannedModule& planned : plan.modules) worker.work(planned, nullptr);
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
  return kProgram + module_bytes + calibration_memory(model, *calibration);
}

}  // namespace qwb
