#include "lib/quantize/plan/estimate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "lib/base/parallel.h"
#include "lib/base/rng.h"
#include "lib/quantize/calibrate/block_calibration.h"
#include "lib/quantize/calibrate/block_survey.h"
#include "lib/quantize/solve/input_scaling.h"

namespace qwb {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Quantizing a module of more operations than this is not tried out.
constexpr double kMostOperations = 2e11;
// Input channels of the trials that stand for it.
constexpr int64_t kSmallTrial = 1024, kLargeTrial = 2 * kSmallTrial;
// Operations a thread that one batch of windows may take in a trial; matrix units do four times as
// many in the time.
constexpr double kBatchOperations = 2.5e11;
constexpr int64_t kTrialTile = 128;  // tokens; a multiple keeps the tiles of products whole
constexpr double kShortTrial = 1;    // seconds; a trial shorter than this is repeated

// What a calibrated method does to a module, up to a factor: products with H for every row, H
// factorized.
double operations(const ModuleInfo& module) {
  const auto in = static_cast<double>(module.in), out = static_cast<double>(module.out);
  return 24 * out * in * in + 2.0 / 3 * in * in * in;
}

struct Trial {
  Matrix hessian, drift;
  Moments moments;
};

// Moments that look like a real module's: a diagonal of very different sizes, some correlation.
Trial trial_moments(const Executor& executor, int64_t in) {
  Trial trial{executor.allocate(in, in, MemoryKind::scratch),
              executor.allocate(in, in, MemoryKind::scratch),
              {}};
  const FloatBuffer hessian(in * in), drift(in * in);
  Rng rng(1);
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t j = 0; j < in; ++j) {
      hessian[i * in + j] = i == j ? 1 + static_cast<float>(rng.uniform()) : 1e-4f;
      drift[i * in + j] = i == j ? 0.1f : 1e-5f;
    }
  }
  executor.copy(In(hessian.data(), in, in), trial.hessian);
  executor.copy(In(drift.data(), in, in), trial.drift);
  trial.moments.executor = &executor;
  trial.moments.hessian = trial.hessian;
  trial.moments.drift = trial.drift;
  trial.moments.tokens = 1000;
  for (int64_t i = 0; i < in; ++i)
    trial.moments.input_magnitude.push_back(std::sqrt(hessian[i * in + i] / 1000));
  return trial;
}

// An input group of this module alone: the search for scales takes a time for each module.
void scale_alone(const PlannedModule& planned, const ModuleTask& task) {
  InputGroupTask group;
  group.modules.push_back({task, &planned.settings});
  group.moments = task.moments;
  group.scales = task.info.in;
  group.scale_of.resize(static_cast<size_t>(task.info.in));
  std::iota(group.scale_of.begin(), group.scale_of.end(), int64_t{0});
  group.divided.assign(static_cast<size_t>(task.info.in), 1.0f);
  planned.method->scale_inputs(group);
}

double timed_quantize(const PlannedModule& planned, const ModuleInfo& info,
                      const TensorView& weight, const Moments* moments, const Context& context) {
  const auto start = Clock::now();
  ModuleTask task{info, weight, moments};
  task.context = context;
  if (planned.role == PlannedModule::Role::linear &&
      planned.method->scales_inputs(planned.settings))
    scale_alone(planned, task);
  planned.method->quantize(task, planned.settings);
  return seconds_since(start);
}

// A module of these shapes with random weights and moments; the better of two.
double trial_seconds(const Executor& executor, const PlannedModule& planned, int64_t out,
                     int64_t in, const Context& context) {
  ModuleInfo info = planned.info;
  info.out = out;
  info.in = in;
  info.orientation = Orientation::out_in;
  info.dtype = DType::f32;
  Tensor weight(DType::f32, {out, in});
  Rng rng(2);
  for (int64_t k = 0; k < weight.count(); ++k)
    weight.data<float>()[k] = static_cast<float>(rng.uniform()) - 0.5f;
  const Trial trial = trial_moments(executor, in);
  const double first = timed_quantize(planned, info, weight.view(), &trial.moments, context);
  return std::min(first, timed_quantize(planned, info, weight.view(), &trial.moments, context));
}

// What a method does to a module of `in` input channels: once for H, and once for every round of
// row tiles, a tile for each thread.
struct Cost {
  double preparation = 0, round = 0;
};

Cost trial_cost(const Executor& executor, const PlannedModule& planned, int64_t in,
                const Context& context) {
  const int64_t rows = kRowLanes * context.threads.count();
  const double one = trial_seconds(executor, planned, rows, in, context),
               three = trial_seconds(executor, planned, 3 * rows, in, context);
  const double round = std::clamp((three - one) / 2, 0.0, one);
  return {one - round, round};
}

// Costs at kSmallTrial and kLargeTrial by method and settings.
using KnownCosts = std::map<std::string, std::pair<Cost, Cost>>;

// Of a module too large to try. Searching scales and rounding grow with the channels of a row, what
// is done with H by their square; and H is factorized in n^3 operations on all threads with n on
// one. A single small trial scaled by operations said twice the truth on 16 threads.
double extrapolated_seconds(const Executor& executor, const PlannedModule& planned,
                            KnownCosts& known, const Context& context) {
  const std::string kind = planned.method->name() + planned.settings.dump();
  auto found = known.find(kind);
  if (found == known.end()) {
    const Cost small = trial_cost(executor, planned, kSmallTrial, context);
    found =
        known.emplace(kind, std::pair(small, trial_cost(executor, planned, kLargeTrial, context)))
            .first;
  }
  const auto& [small, large] = found->second;
  const int64_t rounds = ceil_div(ceil_div(planned.info.out, kRowLanes), context.threads.count());
  const double times = static_cast<double>(planned.info.in) / kLargeTrial;
  return extrapolated(small.preparation, large.preparation, 3, times) +
         static_cast<double>(rounds) * extrapolated(small.round, large.round, 2, times);
}

double module_seconds(const Model& model, const PlannedModule& planned, bool calibrated,
                      KnownCosts& costs, const Context& context) {
  if (planned.method->needs_calibration() && operations(planned.info) > kMostOperations)
    return extrapolated_seconds(model.executor(), planned, costs, context);
  const Trial trial = calibrated ? trial_moments(model.executor(), planned.info.in) : Trial{};
  const TensorView weight = *model.source().find(planned.info.name + ".weight");
  const double seconds =
      timed_quantize(planned, planned.info, weight, calibrated ? &trial.moments : nullptr, context);
  model.source().release(weight);
  return seconds;
}

// Seconds of all planned modules: each kind (method, settings, shape) is tried once.
double modules_seconds(const Model& model, const Plan& plan, bool calibrated,
                       const Context& context) {
  std::map<std::string, double> known;
  KnownCosts costs;
  double total = 0;
  for (const PlannedModule& planned : plan.modules) {
    const std::string kind = planned.method->name() + planned.settings.dump() +
                             std::to_string(planned.info.out) + "x" +
                             std::to_string(planned.info.in);
    auto found = known.find(kind);
    if (found == known.end())
      found = known.emplace(kind, module_seconds(model, planned, calibrated, costs, context)).first;
    total += found->second;
  }
  return total;
}

// Tokens a window of a trial: whole windows unless they are too much work.
int64_t trial_length(const Model& model, const CalibrationSet& calibration, bool follow) {
  const ModelConfig& c = model.config();
  const double weights = static_cast<double>(
      c.hidden * (2 * c.heads + 2 * c.kv_heads) * c.head_dim + 3 * c.hidden * c.intermediate);
  const double per_token =
      weights * (follow ? 8 : 3);  // forward, its original, products of the moments
  const double speed = model.executor().products() == Products::bf16 ? 4 : 1;
  const auto most = static_cast<int64_t>(kBatchOperations * speed *
                                         model.executor().threads().count() / per_token);
  return std::min(calibration.length,
                  std::max<int64_t>(most / kTrialTile * kTrialTile, kTrialTile));
}

// So many of the set's windows, again from the first if there are fewer, cut to `length`.
CalibrationSet trial_set(const CalibrationSet& calibration, int64_t count, int64_t length) {
  CalibrationSet set;
  set.length = length;
  for (int64_t w = 0; w < count; ++w) {
    const auto& window = calibration.windows[static_cast<size_t>(w) % calibration.windows.size()];
    set.windows.emplace_back(window.begin(), window.begin() + length);
  }
  return set;
}

// Seconds of the first block's calibration over these windows.
double calibration_seconds(const Model& model, const CalibrationSet& windows, bool follow,
                           CalibrationMemory& memory, const Context& context) {
  ResidualStream stream(model, windows, {}, context);
  std::optional<ResidualStream> reference;
  if (follow) reference.emplace(model, windows, Path(), context);
  const auto start = Clock::now();
  BlockCalibration block(model, 0, stream, reference ? &*reference : nullptr, memory, context);
  for (size_t group = 0; group < block.groups().size(); ++group)
    block.observe(group, {true, follow, false});
  block.finish();
  return seconds_since(start);
}

std::vector<size_t> all_groups(const Model& model) {
  std::vector<size_t> groups(input_groups(model.config(), model.spec().blocks.front()).size());
  std::iota(groups.begin(), groups.end(), size_t{0});
  return groups;
}

// Seconds that the windows of one block take. One batch and two of them tell what a block takes
// once (moments of a wide model are a gigabyte to clear) and what every batch takes.
double block_seconds(const Model& model, const Plan& plan, const CalibrationSet& calibration,
                     const Context& context) {
  const bool follow = plan.wants_reference();
  const int64_t length = trial_length(model, calibration, follow);
  const int64_t windows =
      trial_windows(model, trial_set(calibration, calibration.windows.size(), length));
  const CalibrationSet few = trial_set(calibration, windows, length);
  const CalibrationSet twice = trial_set(calibration, 2 * windows, length);
  CalibrationMemory memory(model, twice);
  const auto timed = [&](const CalibrationSet& set) {
    const double seconds = calibration_seconds(model, set, follow, memory, context);
    return seconds < kShortTrial
               ? std::min(seconds, calibration_seconds(model, set, follow, memory, context))
               : seconds;
  };
  // The longer one comes first: pages of weights read for the first time then make the estimate too
  // long.
  const double two = timed(twice), one = timed(few);
  const double batch = std::clamp(two - one, one / 4, one);
  const double tokens = static_cast<double>(calibration.tokens());
  double seconds = one - batch + batch * tokens / static_cast<double>(few.tokens());
  if (scales_inputs(plan)) {
    const ResidualStream stream(model, few, {}, context);
    const auto start = Clock::now();
    survey_block(model, 0, stream, all_groups(model), context);
    const auto surveyed = [](const CalibrationSet& set) {
      return static_cast<double>(surveyed_windows(set) * set.length);
    };
    seconds += seconds_since(start) * surveyed(calibration) /
               std::min(surveyed(few), surveyed(calibration));
  }
  return seconds;
}

}  // namespace

double extrapolated(double half, double whole, double power, double times) {
  const double steep =
      std::clamp((whole - 2 * half) / (1 - std::pow(2.0, 1 - power)), 0.0, std::max(whole, 0.0));
  return steep * std::pow(times, power) + (whole - steep) * times;
}

MemoryNeed estimate_memory(const Model& model, const Plan& plan,
                           const CalibrationSet* calibration) {
  constexpr int64_t kProgram = 24 << 20;
  int64_t weights = 0, mapped = 0, stored = 0;  // of the largest module
  for (const PlannedModule& module : plan.modules) {
    weights = std::max(weights, module.weights());
    stored = std::max(stored, module.layout.bytes());
    if (const auto tensor = model.source().find(module.info.name + ".weight"))
      mapped = std::max(mapped, static_cast<int64_t>(tensor->bytes.size()));
  }
  MemoryNeed need;
  if (calibration == nullptr) {
    // One module is written while the next one is quantized; a third one's memory waits for the one
    // after.
    need.fixed = kProgram + mapped + 3 * stored;
    return need;
  }
  // One module's weight: mapped, in f32, its working copy and its codes.
  need.fixed = kProgram + weights * 14;
  const bool follow = plan.wants_reference();
  const ActivationBytes activations = activation_bytes(model, *calibration, follow);
  need.kept = activations.kept;
  need.streams = activations.streams;
  const int64_t survey = scales_inputs(plan) ? survey_memory(model, *calibration) : 0;
  need.fixed += std::max(calibration_memory(model, *calibration, follow), survey);
  return need;
}

double estimate_seconds(const Model& model, const Plan& plan, const CalibrationSet* calibration,
                        const Context& context) {
  double seconds = modules_seconds(model, plan, calibration != nullptr, context);
  if (calibration != nullptr)
    seconds += block_seconds(model, plan, *calibration, context) *
               static_cast<double>(model.config().layers);
  return seconds;
}

}  // namespace qwb
