#include "lib/quantize/estimate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "lib/base/rng.h"
#include "lib/quantize/block_calibration.h"
#include "lib/quantize/block_survey.h"
#include "lib/quantize/stage_scaling.h"

namespace qwb {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Quantizing a module of more operations than this is not tried out.
constexpr double kMostOperations = 2e11;
constexpr int64_t kTrialChannels = 1024;

// What a calibrated method does to a module, up to a factor: products with H for every row, H factorized.
double operations(const ModuleInfo& module) {
  const auto in = static_cast<double>(module.in), out = static_cast<double>(module.out);
  return 24 * out * in * in + 2.0 / 3 * in * in * in;
}

struct Trial {
  FloatBuffer hessian, drift;
  Moments moments;
};

// Moments that look like a real module's: a diagonal of very different sizes, some correlation.
Trial trial_moments(int64_t in) {
  Trial trial{FloatBuffer(in * in), FloatBuffer(in * in), {}};
  Rng rng(1);
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t j = 0; j < in; ++j) {
      trial.hessian[i * in + j] = i == j ? 1 + static_cast<float>(rng.uniform()) : 1e-4f;
      trial.drift[i * in + j] = i == j ? 0.1f : 1e-5f;
    }
  }
  trial.moments.hessian = trial.hessian.data();
  trial.moments.drift = trial.drift.data();
  trial.moments.tokens = 1000;
  for (int64_t i = 0; i < in; ++i)
    trial.moments.input_magnitude.push_back(std::sqrt(trial.hessian[i * in + i] / 1000));
  return trial;
}

// A stage of this module alone: the search for scales takes a time for each module.
void scale_alone(const PlannedModule& planned, const ModuleTask& task) {
  StageTask stage;
  stage.modules.push_back({task, &planned.settings});
  stage.moments = task.moments;
  stage.scales = task.info.in;
  stage.scale_of.resize(static_cast<size_t>(task.info.in));
  std::iota(stage.scale_of.begin(), stage.scale_of.end(), int64_t{0});
  stage.divided.assign(static_cast<size_t>(task.info.in), 1.0f);
  planned.method->scale_stage(stage);
}

double timed_quantize(const PlannedModule& planned, const ModuleInfo& info, const TensorView& weight,
                      const Moments* moments) {
  const auto start = Clock::now();
  const ModuleTask task{info, weight, moments};
  if (planned.role == PlannedModule::Role::linear && planned.method->scales_stages(planned.settings))
    scale_alone(planned, task);
  planned.method->quantize(task, planned.settings);
  return seconds_since(start);
}

double module_seconds(const Model& model, const PlannedModule& planned, bool calibrated) {
  const bool needs = planned.method->needs_calibration();
  if (!needs || operations(planned.info) <= kMostOperations) {
    const Trial trial = calibrated ? trial_moments(planned.info.in) : Trial{};
    const TensorView weight = *model.source().find(planned.info.name + ".weight");
    const double seconds =
        timed_quantize(planned, planned.info, weight, calibrated ? &trial.moments : nullptr);
    model.source().release(weight);
    return seconds;
  }
  ModuleInfo smaller = planned.info;
  smaller.in = smaller.out = kTrialChannels;
  smaller.orientation = Orientation::out_in;
  smaller.dtype = DType::f32;
  Tensor weight(DType::f32, {smaller.out, smaller.in});
  Rng rng(2);
  for (int64_t k = 0; k < weight.count(); ++k)
    weight.data<float>()[k] = static_cast<float>(rng.uniform()) - 0.5f;
  const Trial trial = trial_moments(smaller.in);
  return timed_quantize(planned, smaller, weight.view(), &trial.moments) * operations(planned.info) /
         operations(smaller);
}

// Seconds of all planned modules: each kind (method, settings, shape) is tried once.
double modules_seconds(const Model& model, const Plan& plan, bool calibrated) {
  std::map<std::string, double> known;
  double total = 0;
  for (const PlannedModule& planned : plan.modules) {
    const std::string kind = planned.method->name() + planned.settings.dump() +
                             std::to_string(planned.info.out) + "x" + std::to_string(planned.info.in);
    auto found = known.find(kind);
    if (found == known.end()) found = known.emplace(kind, module_seconds(model, planned, calibrated)).first;
    total += found->second;
  }
  return total;
}

// Seconds that the windows of one block take, from a few of them.
double block_seconds(const Model& model, const Plan& plan, const CalibrationSet& calibration) {
  CalibrationSet few = calibration;
  const auto count = static_cast<size_t>(
      std::clamp<int64_t>(trial_windows(model, calibration), 1, static_cast<int64_t>(few.windows.size())));
  few.windows.resize(count);
  const bool follow = plan.wants_reference();
  ResidualStream stream(model, few);
  std::optional<ResidualStream> reference;
  if (follow) reference.emplace(model, few);
  HalfRows kept(few.tokens(), kept_columns(model.config()));
  const auto once = [&] {
    const auto start = Clock::now();
    BlockCalibration block(model, 0, stream, reference ? &*reference : nullptr, kept);
    for (const Stage stage : kStages) block.observe(stage, {true, follow, false});
    block.finish();
    return seconds_since(start);
  };
  once();  // the first pages of weights and scratch
  const double all = once() * static_cast<double>(calibration.windows.size());
  double seconds = all / static_cast<double>(count);
  if (scales_stages(plan)) {
    const auto start = Clock::now();
    survey_block(model, 0, stream, {std::begin(kStages), std::end(kStages)});
    seconds += seconds_since(start) * static_cast<double>(surveyed_windows(calibration)) /
               static_cast<double>(std::min(surveyed_windows(few), surveyed_windows(calibration)));
  }
  return seconds;
}

}  // namespace

MemoryNeed estimate_memory(const Model& model, const Plan& plan, const CalibrationSet* calibration) {
  constexpr int64_t kProgram = 24 << 20;
  int64_t weights = 0, mapped = 0, stored = 0;  // of the largest module
  for (const PlannedModule& module : plan.modules) {
    weights = std::max(weights, module.weights());
    stored = std::max(stored, module.storage.bytes());
    if (const auto tensor = model.source().find(module.info.name + ".weight"))
      mapped = std::max(mapped, static_cast<int64_t>(tensor->bytes.size()));
  }
  MemoryNeed need;
  if (calibration == nullptr) {
    // One module is written while the next one is quantized; a third one's memory waits for the one after.
    need.fixed = kProgram + mapped + 3 * stored;
    return need;
  }
  // One module's weight: mapped, in f32, its working copy and its codes.
  need.fixed = kProgram + weights * 14;
  const bool follow = plan.wants_reference();
  const ActivationBytes activations = activation_bytes(model, *calibration, follow);
  need.kept = activations.kept;
  need.streams = activations.streams;
  const int64_t survey = scales_stages(plan) ? survey_memory(model, *calibration) : 0;
  need.fixed += std::max(calibration_memory(model, *calibration, follow), survey);
  return need;
}

double estimate_seconds(const Model& model, const Plan& plan, const CalibrationSet* calibration) {
  double seconds = modules_seconds(model, plan, calibration != nullptr);
  if (calibration != nullptr)
    seconds += block_seconds(model, plan, *calibration) * static_cast<double>(model.config().layers);
  return seconds;
}

}  // namespace qwb
