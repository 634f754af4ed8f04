#include "lib/tune/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/exec/counter_bits.h"
#include "lib/quantize/plan/module_pattern.h"

namespace qwb {
namespace {

constexpr int64_t kSurelyMoved = 3;  // steps after which every B has a value

// What names the numbers that a step draws.
uint64_t step_key(uint64_t seed, int64_t step) {
  return counter_bits(counter_bits(seed, 0x7e9), static_cast<uint64_t>(step)) | 1;
}

int64_t all_steps(const TuneSettings& settings, size_t documents) {
  if (settings.steps > 0) return settings.steps;
  const double exact =
      settings.epochs * static_cast<double>(documents) / static_cast<double>(settings.batch);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(exact - 1e-9)));
}

// A ratio of sums over documents, and its standard error.
LossChange change_of(const std::vector<double>& before, const std::vector<double>& after,
                     const std::vector<double>& counts) {
  double sum = 0, count = 0, squares = 0;
  for (size_t i = 0; i < counts.size(); ++i) sum += after[i] - before[i], count += counts[i];
  if (count == 0) return {};
  LossChange made{sum / count, std::numeric_limits<double>::quiet_NaN()};
  for (size_t i = 0; i < counts.size(); ++i) {
    const double off = after[i] - before[i] - made.change * counts[i];
    squares += off * off;
  }
  const auto n = static_cast<double>(counts.size());
  if (n > 1) made.error = std::sqrt(squares * n / (n - 1)) / count;
  return made;
}

}  // namespace

std::vector<LinearSpec> tuned_modules(const std::vector<LinearSpec>& all,
                                      const std::vector<std::string>& patterns) {
  std::set<std::string> chosen;
  for (const std::string& pattern : patterns) {
    if (pattern == "all-linear") {
      for (const LinearSpec& spec : all) chosen.insert(spec.module);
      continue;
    }
    check_pattern(pattern, "--targets");
    bool any = false;
    std::vector<std::string> names;
    for (const LinearSpec& spec : all) {
      names.push_back(spec.module);
      if (!pattern_matches(pattern, spec.module)) continue;
      chosen.insert(spec.module);
      any = true;
    }
    if (any) continue;
    const auto nearest = nearest_name(pattern, names);
    throw Error(
        ErrorKind::usage, "no linear module of the model matches '" + pattern + "'", "--targets",
        nearest ? "the nearest is " + *nearest : "its modules are called like " + names.front());
  }
  std::vector<LinearSpec> specs;
  for (const LinearSpec& spec : all) {
    if (chosen.contains(spec.module)) specs.push_back(spec);
  }
  return specs;
}

Trainer::Trainer(TapedModel& model, const TuneSettings& settings,
                 const std::vector<LinearSpec>& modules, const DocumentSet& train,
                 const DocumentSet& held, const TuneMachine& machine)
    : model_(model),
      settings_(settings),
      train_(train),
      held_(held),
      machine_(machine),
      order_(train.documents.size(), settings.seed),
      total_(all_steps(settings, train.documents.size())) {
  for (const LinearSpec& spec : modules) {
    modules_.push_back(std::make_unique<TrainedModule>(
        spec, settings_, static_cast<uint64_t>(modules_.size()), model.executor()));
    model.adapt(modules_.back()->factors());
  }
}

double Trainer::epoch() const {
  return static_cast<double>(done_ * settings_.batch) /
         static_cast<double>(train_.documents.size());
}

int64_t Trainer::values() const {
  int64_t values = 0;
  for (const auto& module : modules_) values += module->factors().values();
  return values;
}

void Trainer::add_gradients(StepRecord& record, const StopToken& stop) {
  const std::vector<size_t> chosen = order_.take(done_ * settings_.batch, settings_.batch);
  double weight = 0;
  for (const size_t index : chosen) weight += train_.documents[index].weight();
  for (const auto& module : modules_) module->forget_gradients();
  const bool draws = settings_.dropout > 0 || settings_.neftune > 0;
  const uint64_t key = draws ? step_key(settings_.seed, record.step) : 0;
  const auto factor = static_cast<float>(1 / weight);
  for (const auto& group :
       packed(train_.documents, chosen, machine_.micro_tokens, settings_.pack)) {
    const TrainingRows rows = rows_of(train_.documents, group, factor, key, settings_.neftune);
    const std::vector<double> losses = model_.gradients(rows, machine_.kept_blocks, stop);
    for (size_t i = 0; i < losses.size(); ++i)
      record.loss += static_cast<double>(rows.targets[i].factor) * losses[i];
    record.supervised += std::ssize(losses);
    record.tokens += std::ssize(rows.tokens);
  }
  double squares = 0;
  for (const auto& module : modules_) squares += module->gradient_squares();
  record.gradient_norm = std::sqrt(squares);
}

StepRecord Trainer::step(const StopToken& stop) {
  StepRecord record;
  record.step = done_ + 1;
  add_gradients(record, stop);
  if (!std::isfinite(record.loss) || !std::isfinite(record.gradient_norm)) {
    throw Error(ErrorKind::failed,
                "step " + std::to_string(record.step) + ": the " +
                    (std::isfinite(record.loss) ? "gradient" : "loss") + " is no number",
                {}, "a lower --lr, or --clip, may help; what was saved before it is whole");
  }
  record.clipped = settings_.clip > 0 && record.gradient_norm > settings_.clip;
  record.rate = rate_of(settings_, record.step, total_);
  const AdamW update{.rate = record.rate,
                     .beta1 = settings_.beta1,
                     .beta2 = settings_.beta2,
                     .eps = settings_.eps,
                     .decay = settings_.weight_decay,
                     .step = record.step,
                     .gradient_scale = record.clipped ? settings_.clip / record.gradient_norm : 1};
  for (const auto& module : modules_) module->step(update, settings_.lora_plus);
  ++done_;
  record.epoch = epoch();
  if (done_ == std::min(kSurelyMoved, total_)) check_effect();
  return record;
}

void Trainer::check_effect() const {
  // An expert may not have seen a token yet.
  if (model_.config().experts > 0) return;
  for (const auto& module : modules_) {
    if (module->has_effect()) continue;
    throw Error(ErrorKind::failed,
                "after " + std::to_string(done_) + " steps B is zero still: no gradient reaches it",
                module->factors().module, "leave the module out of --targets");
  }
}

HeldOutLoss Trainer::evaluate(const StopToken& stop) const {
  HeldOutLoss result;
  std::vector<size_t> all(held_.documents.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  std::vector<double> sums(all.size()), counts(all.size());
  for (const auto& group : packed(held_.documents, all, machine_.micro_tokens, settings_.pack)) {
    const TrainingRows rows = rows_of(held_.documents, group, 1, 0, 0);
    const std::vector<double> losses = model_.losses(rows, stop);
    size_t next = 0;
    int64_t end = 0;
    for (size_t d = 0; d < group.size(); ++d) {
      end += rows.documents[d];
      for (; next < losses.size() && rows.targets[next].row < end; ++next) {
        const auto weight = static_cast<double>(rows.targets[next].factor);
        sums[group[d]] += weight * losses[next];
        counts[group[d]] += weight;
        ++result.tokens;
      }
    }
  }
  const LossChange from_nothing = change_of(std::vector<double>(sums.size()), sums, counts);
  result.loss = from_nothing.change;
  result.error = from_nothing.error;
  result.sums = std::move(sums);
  result.counts = std::move(counts);
  return result;
}

LossChange loss_change(const std::vector<double>& sums_before, const HeldOutLoss& after) {
  return change_of(sums_before, after.sums, after.counts);
}

std::vector<AdapterModule> Trainer::adapter_modules() const {
  std::vector<AdapterModule> made;
  for (const auto& module : modules_) made.push_back(module->adapter_module());
  std::ranges::sort(made, {}, &AdapterModule::module);
  return made;
}

std::vector<float> Trainer::state() const {
  std::vector<float> values;
  for (const auto& module : modules_) module->save(values);
  return values;
}

void Trainer::restore(const std::vector<float>& state, int64_t done_steps) {
  int64_t values = 0;
  for (const auto& module : modules_) values += module->state_values();
  if (std::ssize(state) != values)
    throw Error(ErrorKind::failed, "the saved state is of another size");
  const float* next = state.data();
  for (const auto& module : modules_) module->load(next);
  done_ = done_steps;
}

}  // namespace qwb
