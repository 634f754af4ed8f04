// The half of an evaluation that measures what a model costs.
#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "lib/base/error.h"
#include "lib/base/memory.h"
#include "lib/base/parallel.h"
#include "lib/evaluate/energy/sysfs.h"
#include "lib/evaluate/session.h"
#include "lib/exec/devices.h"

namespace qwb {
namespace {

// Where a folder lies, whatever it was called.
std::string real_path(const Path& folder) {
  std::error_code ignored;
  const Path path = std::filesystem::weakly_canonical(folder, ignored);
  return ignored ? folder.string() : path.string();
}

constexpr int kCostsVersion = 4;  // of how costs are measured: another one is another result

// The conditions that a timing depends on besides the work: another machine gives another number.
Json machine_json(const Executor& executor) {
  return {{"cpu", processor_name()},
          {"processors", available_processors()},
          {"threads", executor.threads().count()},
          {"isa", arithmetic_of(executor)}};
}

Json grid_json(const std::vector<SpeedTest>& tests) {
  Json names = Json::array();
  for (const SpeedTest& test : tests) names.push_back(test.name());
  return names;
}

std::string noisy_text(double lost) {
  return fmt::format(
      "the machine did something else, {:.0f} % of the processor time was lost: a doubtful figure "
      "(--fresh measures again)",
      100 * lost);
}

}  // namespace

Json Evaluation::speed_key(const Subject& subject) const {
  Json key = {
      {"what", "speed"},
      {"version", kCostsVersion},
      {"program", options_.version},
      {"content", subject.open.content_hash(options_.quality.keeper->memo_folder(), context_)},
      {"tests", grid_json(speed_tests(options_.speed_options.grid, subject.model->config()))},
      {"repetitions", options_.speed_options.repetitions},
      {"int8_forward", int8_forward_json(*subject.model, options_.int8_forward)},
      {"machine", machine_json(subject.model->executor())}};
  if (!subject.additions.is_null()) key["adapters"] = additions_key(subject.additions);
  return key;
}

Json Evaluation::energy_key(const Subject& subject) const {
  Json key = speed_key(subject);
  const EnergyPlan& plan = options_.energy_plan;
  const EnergyOptions& o = options_.energy_options;
  key["what"] = "energy";
  key.erase("repetitions");
  key["plan"] = {{"seconds", plan.seconds},
                 {"rounds", plan.rounds},
                 {"idle", plan.idle_seconds},
                 {"cooldown", plan.cooldown_seconds}};
  key["sources"] = {{"watts", o.declared_watts ? Json(*o.declared_watts) : Json(nullptr)},
                    {"meter", o.meter_command},
                    {"measures", meter_->measures()},
                    {"unavailable", meter_->unavailable()}};
  return key;
}

std::optional<Json> Evaluation::known(const Json& key) const {
  if (options_.quality.fresh || !options_.quality.keeper) return std::nullopt;
  return options_.quality.keeper->find(key);
}

void Evaluation::keep(const Json& key, const Json& value) const {
  if (options_.quality.keeper) options_.quality.keeper->keep(key, value);
}

// Returns what was measured in turns already, or measures now. The record's memory belongs to this
// work, so the work is done once more alone.
SpeedResult Evaluation::speed_of(const Subject& subject) {
  const auto found = speeds_.find(real_path(subject.open.folder));
  if (found == speeds_.end())
    return measure_speed(*subject.model, options_.speed_options, context_);
  for (const SpeedRun& run : found->second.runs)
    SpeedRunner(*subject.model, run.test, 0, context_.stop).pass();
  return found->second;
}

void Evaluation::speed_in_turns(const std::vector<Subject>& subjects,
                                const std::vector<std::string>& names) {
  std::vector<const Model*> models;
  std::vector<std::string> timed;
  int64_t bytes = 0;
  for (size_t i = 0; i < subjects.size(); ++i) {
    if (options_.quality.keeper && known(speed_key(subjects[i]))) continue;
    models.push_back(subjects[i].model.get());
    timed.push_back(names[i]);
    bytes += subjects[i].tensor_bytes;
  }
  if (models.size() < 2) return;
  if (bytes > available_memory() / 2) {
    context_.progress->note(
        "the models do not fit into half of the memory together: speed is measured one after the "
        "other");
    return;
  }
  SystemCpuWatch watch;
  std::vector<SpeedResult> results =
      measure_speeds(models, options_.speed_options, watch, context_);
  for (size_t i = 0; i < timed.size(); ++i) speeds_[timed[i]] = std::move(results[i]);
}

bool Evaluation::measure_speed_of(const Subject& subject, EvaluationRecord& record) {
  if (!options_.speed) return false;
  const Json key = options_.quality.keeper ? speed_key(subject) : Json();
  if (const auto found = known(key);
      found && json_has(*found, "speed") && json_has(*found, "memory")) {
    record.speed = found->at("speed");
    record.memory = found->at("memory");
    record.speed["cached"] = record.memory["cached"] = true;
    context_.progress->note(record.artifact +
                            ": speed as measured before (--fresh measures again)");
    return false;
  }
  SpeedCost cost;
  cost.result = speed_of(subject);
  cost.load_seconds = subject.load_seconds;
  cost.isa = arithmetic_of(subject.model->executor());
  cost.cpu = processor_name();
  cost.version = options_.version;
  cost.architecture = subject.model->config().architecture;
  cost.parameters = subject.model->weight_bytes().parameters;
  cost.bytes = subject.tensor_bytes;
  kv_tokens_ = std::max(kv_tokens_, cost.result.kv_tokens());
  record.speed = speed_json(cost);
  account_memory(subject, record);
  for (const SpeedRun& run : cost.result.runs) {
    if (run.noisy)
      context_.progress->note(
          fmt::format("{}: {}: {}", record.artifact, run.test.name(), noisy_text(run.lost_share)));
  }
  keep(key, {{"speed", record.speed}, {"memory", record.memory}});
  return true;
}

void Evaluation::prepare(const std::vector<Path>& folders) {
  quality_.consider(folders);
  if (!options_.speed) return;
  std::vector<Subject> subjects;
  std::vector<std::string> names;
  for (const Path& folder : folders) {
    const std::string name = real_path(folder);
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    try {
      Subject subject = open_subject(
          folder, {.executor = executor_, .tokenizer = false, .attach = options_.attach}, context_);
      speed_tests(options_.speed_options.grid, subject.model->config());
      subjects.push_back(std::move(subject));
      names.push_back(name);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
    }
  }
  speed_in_turns(subjects, names);
  if (!meter_) return;
  std::vector<const Model*> models;
  std::vector<std::string> measured;
  for (size_t i = 0; i < subjects.size(); ++i) {
    if (energies_.contains(names[i]) || (energy_may_be_known() && known(energy_key(subjects[i]))))
      continue;
    models.push_back(subjects[i].model.get());
    measured.push_back(names[i]);
  }
  if (!models.empty()) measure_energies(models, measured);
}

void Evaluation::measure_energies(const std::vector<const Model*>& models,
                                  const std::vector<std::string>& names) {
  SystemCpuWatch watch;
  auto results = measure_energy(models, options_.speed_options.grid, *meter_, options_.energy_plan,
                                watch, context_);
  if (!idle_.before) idle_.before = results.front().idle.before;
  for (size_t i = 0; i < results.size(); ++i) {
    for (const EnergyWindow& window : results[i].windows) {
      if (window.noisy())
        context_.progress->note(fmt::format("{}: energy of {}: {}", names[i], window.test.name(),
                                            noisy_text(window.lost_share)));
    }
    energies_[names[i]] = {std::move(results[i].windows), std::move(results[i].idle),
                           meter_->counters(), options_.energy_plan, results[i].rested_seconds};
  }
}

// With a perplexity its own energy has to be measured anyway.
bool Evaluation::energy_may_be_known() const {
  return options_.quality.keeper && !options_.quality.perplexity;
}

void Evaluation::measure_energy_of(const Subject& subject, EvaluationRecord& record) {
  if (!meter_ || !options_.speed) return;
  const Json key = energy_may_be_known() ? energy_key(subject) : Json();
  const auto found = energy_may_be_known() ? known(key) : std::nullopt;
  if (found && found->is_object()) {
    record.energy = *found;
    record.energy["cached"] = true;
    context_.progress->note(record.artifact +
                            ": energy as measured before (--fresh measures again)");
    return;
  }
  const std::string name = real_path(record.artifact);
  if (!energies_.contains(name)) measure_energies({subject.model.get()}, {name});
  record.energy = energy_json(energies_.at(name));
  if (energy_may_be_known()) keep(key, record.energy);
}

void Evaluation::begin_perplexity_energy(const std::string& artifact) {
  if (!meter_) return;
  EnergyCost& cost = energies_[real_path(artifact)];
  cost.plan = options_.energy_plan;
  cost.counters = meter_->counters();
  if (energies_.size() > 1) {  // another model worked before
    if (options_.energy_plan.cooldown_seconds > 0)
      context_.progress->note(artifact + ": cooling down");
    cost.rested_seconds += cool_down(*meter_, options_.energy_plan, idle_, context_.stop);
  }
  if (!cost.idle.before) cost.idle.before = measure_idle(*meter_, options_.energy_plan, context_);
  if (!idle_.before) idle_.before = cost.idle.before;
  perplexity_begin_ = SystemCpuWatch().now();
  meter_->start();
}

void Evaluation::end_perplexity_energy(EvaluationRecord& record, int64_t tokens) {
  if (!meter_) return;
  EnergyCost& cost = energies_[real_path(record.artifact)];
  EnergyWindow window;
  window.work = "perplexity";
  window.tokens = tokens;
  window.report = meter_->stop();
  // Too long to be repeated; without another run nothing tells how much of its time it should get.
  const CpuShares shares =
      shares_between(perplexity_begin_, SystemCpuWatch().now(), context_.threads.count());
  if (meter_->measures()) window.lost_share = lost_share(shares, shares.own);
  if (window.noisy())
    context_.progress->note(record.artifact +
                            ": energy of the perplexity: " + noisy_text(window.lost_share));
  std::erase_if(cost.windows, [](const EnergyWindow& old) { return old.work == "perplexity"; });
  cost.windows.push_back(std::move(window));
  if (!cost.idle.after) cost.idle.after = measure_idle(*meter_, options_.energy_plan, context_);
  record.energy = energy_json(cost);
}

void Evaluation::account_memory(const Subject& subject, EvaluationRecord& record) const {
  MemoryCost cost;
  try {
    cost.use = memory_use();
  } catch (const Error& error) {  // a masked /proc: the ledger still tells
    context_.progress->note("no memory figures of the system: " + std::string(error.what()));
  }
  cost.peak_reset = peak_reset_;
  cost.weight_bytes = subject.tensor_bytes;
  cost.ledger = memory_ledger();
  cost.model = subject.model->weight_bytes();
  cost.kv_tokens = kv_tokens_;
  if (kv_tokens_ > 0) cost.kv_bytes = kv_cache_bytes(subject.model->config(), kv_tokens_);
  cost.quantize_peak = subject.quantize_peak;
  record.memory = memory_json(cost);
}

}  // namespace qwb
