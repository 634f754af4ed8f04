#include "lib/quantize/pipeline.h"

#include <algorithm>
#include <chrono>
#include <future>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/quantize/calibrate/block_calibration.h"
#include "lib/quantize/encode/kept_values.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/solve/input_scaling.h"
#include "lib/quantize/solve/output_error.h"

namespace qwb {
namespace {

// Hands results over and keeps the clock.
class Worker {
 public:
  Worker(const Model& model, ModuleSink& sink, const RunOptions& options, const Context& context)
      : model_(model), sink_(sink), options_(options), context_(context) {}

  struct Finished {
    ModuleResult result;
    ModuleReport report;
  };

  Finished quantize(const PlannedModule& planned, const Moments* moments,
                    const BlockScaling* scaling = nullptr) const {
    context_.stop.check();
    const auto start = std::chrono::steady_clock::now();
    const auto tensor = model_.source().find(planned.info.name + ".weight");
    if (!tensor)
      throw Error(ErrorKind::not_found, "tensor '" + planned.info.name + ".weight' is missing");
    ModuleTask task = {planned.info, *tensor, moments};
    task.query_key_rows = query_key_rows(model_, planned);
    task.context = context_;
    if (scaling != nullptr) task.folded = scaling->folded_into(planned.info.name);
    Finished finished{quantize_module(*planned.method, task, planned.settings), {}};
    ModuleResult& result = finished.result;
    if (moments != nullptr && !result.output_error)
      result.output_error = output_error(task, result.tensor);
    if (moments != nullptr && options_.made) options_.made(task, result);
    ModuleReport& report = finished.report;
    report.name = planned.info.name;
    report.weights = planned.info.out * planned.info.in;
    report.bytes = planned.layout.bytes();
    report.weight_error = result.weight_error;
    report.output_error = result.output_error;
    report.details = result.details;
    if (scaling != nullptr) add_details(*scaling, report);
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return finished;
  }

  void put(const PlannedModule& planned, const Finished& finished) {
    sink_.put(planned, finished.result.tensor, finished.report);
    context_.progress->advance(finished.report.weights, planned.info.name);
  }

  // Both; the result is for those that go on with it.
  ModuleResult work(const PlannedModule& planned, const Moments* moments,
                    const BlockScaling* scaling = nullptr) {
    Finished finished = quantize(planned, moments, scaling);
    put(planned, finished);
    return std::move(finished.result);
  }

  void release(const PlannedModule& planned) const {
    if (const auto tensor = model_.source().find(planned.info.name + ".weight"))
      model_.source().release(*tensor);
  }

  // Adds the shift to the module's bias, as the checkpoint's type holds it.
  void shift_bias(const PlannedModule& planned, const std::vector<float>& shift,
                  BlockCalibration& block) {
    const std::string name = planned.info.name + ".bias";
    const auto tensor = model_.source().find(name);
    if (!tensor) throw Error(ErrorKind::not_found, "tensor '" + name + "' is missing");
    std::vector<float> bias = read_floats(*tensor, name);
    for (size_t i = 0; i < bias.size(); ++i) bias[i] += shift[i];
    const Tensor stored = narrow(bias, tensor->dtype, tensor->shape, name);
    block.set_bias(planned.info.name, read_floats(stored.view(), name));
    sink_.replace(name, stored.view());
  }

  // Norms and biases that took up scales.
  void put(const BlockScaling& scaling) {
    for (const ScaledTensor& tensor : scaling.replaced)
      sink_.replace(tensor.name, tensor.stored.view());
  }

  void skip(const PlannedModule& planned) {
    context_.progress->advance(planned.weights(), planned.info.name);
  }

 private:
  static void add_details(const BlockScaling& scaling, ModuleReport& report) {
    const auto found = scaling.details.find(report.name);
    if (found != scaling.details.end()) report.details.update(found->second);
  }

  const Model& model_;
  ModuleSink& sink_;
  const RunOptions& options_;
  Context context_;
};

using Modules = std::vector<const PlannedModule*>;

// The planned modules of one block.
Modules block_modules(const Plan& plan, int64_t block) {
  Modules found;
  for (const PlannedModule& module : plan.modules) {
    if (module.role == PlannedModule::Role::linear && module.block == block)
      found.push_back(&module);
  }
  return found;
}

MomentsRequest wants(const Modules& modules) {
  MomentsRequest wants;
  wants.moments = !modules.empty();
  bool biases = true;
  for (const PlannedModule* module : modules) {
    const bool follows = module->method->wants_reference(module->settings);
    wants.drift = wants.drift || follows;
    biases = biases && module->info.bias && follows;
  }
  wants.centred = wants.drift && biases;
  return wants;
}

// A whole calibrated run.
class CalibratedRun {
 public:
  CalibratedRun(const Model& model, const Plan& plan, const CalibrationSet& calibration,
                const RunOptions& options, const Context& context, Worker& worker)
      : model_(model),
        plan_(plan),
        calibration_(calibration),
        options_(options),
        context_(context),
        worker_(worker),
        stream_(model, calibration, options.stream_scratch, context),
        memory_(model, calibration, options.kept_scratch) {
    if (plan.wants_reference())
      reference_.emplace(model, calibration, options.stream_scratch, context);
    if (const auto table = model.source().find(model.spec().embedding + ".weight"))
      model.source().release(*table);
  }

  void run() {
    const int64_t layers = model_.config().layers;
    const int64_t done = options_.state != nullptr ? options_.state->finished_blocks() : 0;
    if (done > 0) {
      options_.state->restore(stream_, reference());
      skip(done);
    } else {
      lookup();
    }
    for (int64_t index = done; index < layers; ++index) {
      block(index);
      if (options_.state != nullptr) options_.state->save(index + 1, stream_, reference());
    }
    output();
  }

 private:
  ResidualStream* reference() { return reference_ ? &*reference_ : nullptr; }

  void skip(int64_t blocks) {
    for (const PlannedModule& module : plan_.modules) {
      const bool linear = module.role == PlannedModule::Role::linear;
      if (module.role == PlannedModule::Role::lookup || (linear && module.block < blocks))
        worker_.skip(module);
    }
  }

  // The stream then begins at the embeddings as they will be stored.
  void lookup() {
    for (const PlannedModule& planned : plan_.modules) {
      if (planned.role != PlannedModule::Role::lookup) continue;
      const QuantizedTensor tensor = worker_.work(planned, nullptr).tensor;
      stream_.begin(model_, calibration_, tensor.view(), context_);
      worker_.release(planned);
    }
  }

  void block(int64_t index) {
    const Modules all = block_modules(plan_, index);
    const BlockScaling scaling = scale_block(model_, index, all, stream_, context_);
    worker_.put(scaling);
    BlockCalibration block(model_, index, stream_, reference(), memory_, context_);
    scaling.apply(block);
    for (size_t group = 0; group < block.groups().size(); ++group) {
      Modules modules;
      std::copy_if(all.begin(), all.end(), std::back_inserter(modules),
                   [&](const PlannedModule* module) { return module->group == group; });
      const Moments& moments = block.observe(group, wants(modules));
      for (const PlannedModule* planned : modules) {
        const ModuleResult result = worker_.work(*planned, &moments, &scaling);
        block.replace(planned->info.name, result.tensor.view());
        if (!result.bias_shift.empty()) worker_.shift_bias(*planned, result.bias_shift, block);
      }
    }
    if (leads_on(index)) block.finish();
    // The original weights were read again and again until here.
    for (const PlannedModule* planned : all) worker_.release(*planned);
  }

  // Somebody reads what the block makes of the stream.
  bool leads_on(int64_t index) const {
    return index + 1 < model_.config().layers ||
           std::any_of(plan_.modules.begin(), plan_.modules.end(), [](const PlannedModule& module) {
             return module.role == PlannedModule::Role::output;
           });
  }

  void output() {
    for (const PlannedModule& planned : plan_.modules) {
      if (planned.role != PlannedModule::Role::output) continue;
      const OutputCalibration inputs(model_, stream_, reference(), wants({&planned}), context_);
      worker_.work(planned, &inputs.moments());
      worker_.release(planned);
    }
  }

  const Model& model_;
  const Plan& plan_;
  const CalibrationSet& calibration_;
  const RunOptions& options_;
  Context context_;
  Worker& worker_;
  ResidualStream stream_;
  std::optional<ResidualStream> reference_;
  CalibrationMemory memory_;
};

// Without calibration. Another thread puts a module while the next one is quantized: the system
// lets one thread at a time write into a file.
void each_by_itself(const Plan& plan, Worker& worker) {
  std::future<void> putting;
  for (const PlannedModule& planned : plan.modules) {
    Worker::Finished finished = worker.quantize(planned, nullptr);
    if (putting.valid()) putting.get();
    putting = std::async(std::launch::async, [&planned, &worker, finished = std::move(finished)] {
      worker.put(planned, finished);
      worker.release(planned);
    });
  }
  if (putting.valid()) putting.get();
}

}  // namespace

void quantize_model(const Model& model, const Plan& plan, const CalibrationSet* calibration,
                    ModuleSink& sink, const Context& context, const RunOptions& options) {
  if (plan.needs_calibration() != (calibration != nullptr)) {
    throw Error(ErrorKind::usage, calibration == nullptr ? "the plan needs a calibration set"
                                                         : "the plan takes no calibration set");
  }
  Worker worker(model, sink, options, context);
  context.progress->begin("quantize " + plan.method_name(), plan.weights);
  if (calibration != nullptr) {
    CalibratedRun(model, plan, *calibration, options, context, worker).run();
  } else {
    each_by_itself(plan, worker);
  }
  context.progress->end();
}

}  // namespace qwb
