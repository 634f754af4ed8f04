#include "lib/evaluate/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "lib/base/error.h"

namespace qwb {

std::string real_path(const Path& folder) {
  std::error_code ignored;
  const Path path = std::filesystem::weakly_canonical(folder, ignored);
  return ignored ? folder.string() : path.string();
}

Evaluation::Evaluation(EvaluationOptions options, Progress& progress)
    : options_(std::move(options)), progress_(progress), int8_(make_int8_backend(options_.int8_forward)) {
  find_protocol(options_.protocol.protocol);
  if (options_.speed_options.repetitions < 1)
    throw Error(ErrorKind::usage, "at least one repetition is needed");
  if (options_.energy) meter_ = std::make_unique<EnergyMeter>(options_.energy_options);
}

const EncodedText& Evaluation::encoded(const Subject& subject) {
  const std::string key = subject.tokenizer->content_hash();
  const auto known = texts_.find(key);
  if (known != texts_.end()) return known->second;
  return texts_[key] = encode_text(*subject.tokenizer, options_.text, options_.text_name);
}

PerplexityResult Evaluation::perplexity_of(const Subject& subject) {
  return measure_perplexity(*subject.model, encoded(subject), options_.protocol, progress_);
}

void Evaluation::measure(const Subject& subject, EvaluationRecord& record) {
  kv_tokens_ = 0;
  measure_speed_of(subject, record);
  measure_energy_of(subject, record);
  if (!options_.perplexity) return;
  encoded(subject);  // tokenization is not the model's work
  begin_perplexity_energy(record.artifact);
  record.perplexity = perplexity_of(subject);
  end_perplexity_energy(record);
  kv_tokens_ = std::max(kv_tokens_, record.perplexity->context);
}

const PerplexityResult* Evaluation::baseline_of(const Subject& subject, EvaluationRecord& record) {
  const std::optional<Path> folder = baseline_folder(subject);
  if (!folder) {
    progress_.note(
        fmt::format("{}: no ratio: the unquantized model {}", record.artifact,
                    subject.source.empty() ? "is not named in qwb.json" : "is not at " + subject.source));
    return nullptr;
  }
  const std::string key = real_path(*folder);
  record.baseline = key;
  const auto known = baselines_.find(key);
  if (known != baselines_.end()) return &known->second;
  progress_.note("measuring the unquantized model " + folder->string());
  const Subject source = open_subject(*folder, true);
  return &(baselines_[key] = perplexity_of(source));
}

void Evaluation::compare(const Subject& subject, EvaluationRecord& record) {
  if (!options_.baseline || !record.perplexity) return;
  if (subject.method == "none" && subject.source.empty()) {
    baselines_[real_path(subject.open.folder)] = *record.perplexity;
    return;
  }
  try {
    const PerplexityResult* baseline = baseline_of(subject, record);
    if (baseline != nullptr) record.ratio = perplexity_ratio(*record.perplexity, *baseline);
  } catch (const Error& error) {
    // The artifact's own figures stand without their comparison.
    if (error.kind() == ErrorKind::interrupted) throw;
    progress_.note(fmt::format("{}: no ratio: {}", record.artifact, error.what()));
  }
}

EvaluationRecord Evaluation::run(const Path& folder) {
  EvaluationRecord record;
  record.artifact = folder.string();
  reset_memory_ledger_peaks();
  peak_reset_ = reset_memory_peak();
  const Subject subject =
      open_subject(folder, options_.perplexity, int8_ != nullptr ? *int8_ : fast_backend());
  require_int8_modules(*subject.model, options_.int8_forward, record.artifact);
  record.int8_forward = int8_forward_json(*subject.model, options_.int8_forward);
  record.method = subject.method;
  record.bits = subject.bits;
  record.bpw = subject.bpw;
  record.bytes = subject.tensor_bytes;
  measure(subject, record);
  account_memory(subject, record);
  compare(subject, record);
  return record;
}

}  // namespace qwb
