#include "lib/evaluate/quality.h"

#include <fmt/format.h>

#include <system_error>
#include <utility>

#include "lib/evaluate/of_baseline.h"
#include "lib/exec/devices.h"

namespace qwb {
namespace {

std::string real_path_of(const Path& folder) {
  std::error_code ignored;
  const Path path = std::filesystem::weakly_canonical(folder, ignored);
  return ignored ? folder.string() : path.string();
}

// Unquantized models run by the fast executor.
const Json kPlainForward = nullptr;

}  // namespace

Quality::Quality(QualityOptions options, const Context& context)
    : options_(std::move(options)),
      context_(context),
      originals_(options_.keeper ? options_.keeper->memo_folder() : Path(), context) {
  find_protocol(options_.protocol.protocol);
  for (const TaskOptions& task : options_.tasks) tasks_.push_back(load_task(task));
}

// --- keys and kept results

std::optional<Json> Quality::key_of(const Subject& subject, const Json& forward,
                                    const std::string& kind) const {
  if (!options_.keeper) return std::nullopt;
  try {
    Json key = {{"kind", kind}, {"evaluation_version", kEvaluationVersion}};
    key["model"] = subject.open.content_hash(options_.keeper->memo_folder(), context_);
    key["forward"] = forward;
    key["isa"] = arithmetic_of(subject.model->executor());
    if (!subject.additions.is_null()) key["adapters"] = additions_key(subject.additions);
    return key;
  } catch (const Error&) {
    return std::nullopt;  // nothing tells this model from others
  }
}

std::optional<Json> Quality::find(const std::optional<Json>& key) const {
  return key && !options_.fresh ? options_.keeper->find(*key) : std::nullopt;
}

std::unique_ptr<WorkJournal> Quality::journal(const std::optional<Json>& key) const {
  if (!key) return nullptr;
  std::unique_ptr<WorkJournal> journal = options_.keeper->journal(*key);
  if (journal && options_.fresh && !journal->finished().empty()) {
    journal->remove();
    journal = options_.keeper->journal(*key);
  }
  if (journal && !journal->finished().empty())
    context_.progress->note(
        fmt::format("going on after {} pieces of an interrupted run", journal->finished().size()));
  return journal;
}

void Quality::keep(const std::optional<Json>& key, const Json& result, WorkJournal* journal) const {
  if (key) options_.keeper->keep(*key, result);
  if (journal != nullptr) journal->remove();
}

void Quality::attempt(const Subject& subject, QualityRecord& record,
                      const std::function<void()>& work) const {
  try {
    work();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    context_.progress->end();
    // With several models on the command line, the model is named.
    const std::string folder = subject.open.folder.string(), what = error.what();
    record.problems.push_back(
        what.find(folder) == std::string::npos ? Error(error.kind(), what, folder) : error);
  }
}

// --- the subject's own figures

PerplexityResult Quality::perplexity_of(const Subject& subject, const Json& forward, bool keep_it,
                                        bool& ran) {
  const TokenPlan plan = make_plan(options_.protocol, subject.model->config(),
                                   subject.tokenizer.value(), options_.text);
  std::optional<Json> key = keep_it ? key_of(subject, forward, "perplexity") : std::nullopt;
  if (key) (*key)["plan"] = plan.hash(), (*key)["protocol"] = plan.protocol;
  if (const std::optional<Json> kept = find(key)) {
    PerplexityResult result = perplexity_from_json(*kept);
    result.cached = true;
    return result;
  }
  ran = true;
  const std::unique_ptr<WorkJournal> work = journal(key);
  PerplexityResult result = measure_perplexity(*subject.model, plan, context_, work.get());
  keep(key, perplexity_to_json(result), work.get());
  return result;
}

TaskResult Quality::answers_of(const Subject& subject, const Json& forward, const TaskData& data,
                               bool& ran) {
  std::optional<Json> key = key_of(subject, forward, "task");
  if (key) {
    (*key)["task"] = data.task->name;
    (*key)["items"] = data.hash;
    (*key)["tokenizer"] = subject.tokenizer.value().content_hash();
  }
  if (const std::optional<Json> kept = find(key)) {
    TaskResult result =
        score_answers(data, kept->at("answers").get<std::vector<std::vector<double>>>());
    result.cached = true;
    return result;
  }
  ran = true;
  const std::unique_ptr<WorkJournal> work = journal(key);
  TaskResult result =
      measure_task(*subject.model, subject.tokenizer.value(), data, context_, work.get());
  keep(key, {{"answers", result.answers}}, work.get());
  return result;
}

bool Quality::measure(const Subject& subject, const Json& forward, QualityRecord& record,
                      const Meter& meter) {
  bool ran = false;
  if (options_.perplexity && (meter.before || !divergence_brings_perplexity(subject))) {
    attempt(subject, record, [&] {
      if (meter.before) meter.before();
      record.perplexity = perplexity_of(subject, forward, !meter.before, ran);
    });
    if (meter.after && record.perplexity)
      meter.after(record.perplexity->windows * record.perplexity->context);
  }
  for (const TaskData& data : tasks_)
    attempt(subject, record,
            [&] { record.tasks.push_back(answers_of(subject, forward, data, ran)); });
  return ran;
}

// --- against the unquantized model

bool Quality::is_baseline(const Subject& subject) const {
  if (!subject.additions.is_null()) return false;
  if (options_.baseline)
    return real_path_of(*options_.baseline) == real_path_of(subject.open.folder);
  return subject.method == "none" && subject.source.empty();
}

std::optional<Path> Quality::baseline_of(const Subject& subject) {
  return options_.baseline ? options_.baseline : originals_.of(subject);
}

bool Quality::divergence_brings_perplexity(const Subject& subject) {
  return options_.divergence && options_.compare && !is_baseline(subject) && baseline_of(subject);
}

std::optional<Path> Quality::required_baseline_of(const Subject& subject,
                                                  const QualityRecord& record) {
  std::optional<Path> folder = baseline_of(subject);
  if (folder || !(record.measured() || options_.divergence)) return folder;
  const std::string reason =
      "the unquantized model " +
      (subject.source.empty() ? "is not named in qwb.json" : "is not at " + subject.source);
  if (options_.divergence)
    throw Error(ErrorKind::not_found, "no divergence: " + reason, subject.open.folder.string(),
                "name it by --baseline, or beside this one");
  context_.progress->note(fmt::format("{}: no ratio: {}", subject.open.folder.string(), reason));
  return folder;
}

// A comparison checks what is known: an artifact records the content hash of the model that it was
// made from.
void Quality::check_baseline(const Subject& subject, const Subject& base) {
  const std::string folder = base.open.folder.string();
  if (base.method != "none") {
    const std::string what = "this is no unquantized model but one of " + base.method;
    if (!options_.baseline)
      throw Error(ErrorKind::verification, what, folder, "name the original by --baseline");
    context_.progress->note(folder + ": " + what + ": ratio and divergence are relative to it");
  }
  if (subject.source_hash.empty()) return;
  const std::string hash = of_baseline([&] { return originals_.content_hash(base.open); });
  if (hash == subject.source_hash) return;
  const std::string artifact = subject.open.folder.string();
  if (options_.baseline) {
    context_.progress->note(folder + " is not the model that " + artifact +
                            " was made from (its content hash differs)");
    return;
  }
  throw Error(ErrorKind::verification,
              "its content has changed since " + artifact + " was made from it: hash " +
                  hash.substr(0, 10) + ", then " + subject.source_hash.substr(0, 10),
              folder, "make the artifact again, or name the original by --baseline");
}

void Quality::remember(const Subject& subject, const QualityRecord& record) {
  const std::string path = real_path_of(subject.open.folder);
  if (record.perplexity) perplexities_[path] = *record.perplexity;
  if (record.tasks.size() == tasks_.size()) answers_[path] = record.tasks;
}

void Quality::diverge(const Subject& subject, const Json& forward, const Subject& base,
                      QualityRecord& record) {
  const ProtocolOptions& protocol = options_.protocol;
  const TokenPlan plan =
      make_plan(protocol, subject.model->config(), subject.tokenizer.value(), options_.text);
  // With the artifact's context: the two may state different limits.
  ProtocolOptions same = protocol;
  same.context = plan.context;
  const TokenPlan base_plan =
      make_plan(same, base.model->config(), base.tokenizer.value(), options_.text);
  std::optional<Json> key = key_of(subject, forward, "divergence");
  if (key) {
    const std::optional<Json> base_key = key_of(base, kPlainForward, "divergence");
    if (base_key) {
      (*key)["plan"] = plan.hash();
      (*key)["protocol"] = plan.protocol;
      (*key)["baseline"] = base_key->at("model");
    } else {
      key.reset();
    }
  }
  DivergenceMeasurement measured;
  if (const std::optional<Json> kept = find(key)) {
    measured = {divergence_from_json(kept->at("divergence")),
                perplexity_from_json(kept->at("base")), perplexity_from_json(kept->at("other"))};
    measured.divergence.cached = measured.base.cached = measured.other.cached = true;
  } else {
    const std::unique_ptr<WorkJournal> work = journal(key);
    measured =
        measure_divergence(*base.model, base_plan, *subject.model, plan, context_, work.get());
    measured.divergence.base_weight_bytes = base.tensor_bytes;
    measured.divergence.weight_bytes = subject.tensor_bytes;
    keep(key,
         {{"divergence", divergence_to_json(measured.divergence)},
          {"base", perplexity_to_json(measured.base)},
          {"other", perplexity_to_json(measured.other)}},
         work.get());
  }
  record.divergence = std::move(measured.divergence);
  record.base_perplexity = std::move(measured.base);
  if (options_.perplexity && !record.perplexity) record.perplexity = std::move(measured.other);
}

void Quality::compare_tasks(const Subject& base, const std::string& key, QualityRecord& record) {
  bool ran = false;
  if (!answers_.contains(key)) {
    std::vector<TaskResult> results;
    for (const TaskData& data : tasks_)
      results.push_back(of_baseline([&] { return answers_of(base, kPlainForward, data, ran); }));
    answers_[key] = std::move(results);
  }
  const std::vector<TaskResult>& baseline = answers_.at(key);
  for (TaskResult& result : record.tasks) {
    for (size_t t = 0; t < tasks_.size(); ++t) {
      if (baseline[t].hash == result.hash && baseline[t].name == result.name)
        result.flips = count_flips(tasks_[t], result, baseline[t]);
    }
  }
}

void Quality::compare(const Subject& subject, const Json& forward, QualityRecord& record) {
  if (!options_.compare || !needs_tokenizer()) return;
  if (is_baseline(subject)) {
    record.is_baseline = true;
    if (options_.divergence)
      context_.progress->note(subject.open.folder.string() +
                              ": no divergence: this is the unquantized model itself");
    remember(subject, record);
    return;
  }
  QualityRecord compared = record;
  compared.problems.clear();
  attempt(subject, compared, [&] {
    const std::optional<Path> folder = required_baseline_of(subject, record);
    if (!folder) return;
    compared.baseline = real_path_of(*folder);
    const std::string key = compared.baseline;
    std::optional<Subject> opened;
    const auto base = [&]() -> const Subject& {
      if (!opened)
        opened.emplace(open_subject(*folder, true, context_.silent(), options_.base_executor));
      return *opened;
    };
    check_baseline(subject, base());
    if (options_.divergence)
      attempt(subject, compared, [&] { diverge(subject, forward, base(), compared); });
    if (options_.perplexity && !compared.perplexity)  // the divergence was to bring it
      attempt(subject, compared, [&] {
        bool ran = false;
        compared.perplexity = perplexity_of(subject, forward, true, ran);
      });
    if (compared.perplexity) {
      attempt(subject, compared, [&] {
        if (compared.base_perplexity) perplexities_[key] = *compared.base_perplexity;
        if (!perplexities_.contains(key)) {
          context_.progress->note("measuring the unquantized model " + folder->string());
          bool ran = false;
          perplexities_[key] =
              of_baseline([&] { return perplexity_of(base(), kPlainForward, true, ran); });
        }
        compared.base_perplexity = perplexities_.at(key);
        compared.ratio = perplexity_ratio(*compared.perplexity, *compared.base_perplexity);
      });
    }
    if (!compared.tasks.empty())
      attempt(subject, compared, [&] { compare_tasks(base(), key, compared); });
  });
  // A comparison that was not asked for may fail: the artifact's own figures stand without it.
  if (!options_.divergence && !options_.baseline) {
    for (const Error& error : compared.problems)
      context_.progress->note(fmt::format("no comparison: {}", error.what()));
    compared.problems.clear();
  }
  compared.problems.insert(compared.problems.begin(), record.problems.begin(),
                           record.problems.end());
  record = std::move(compared);
}

}  // namespace qwb
