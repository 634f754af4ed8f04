#include "lib/evaluate/session.h"

#include <algorithm>
#include <utility>

#include "lib/base/error.h"

namespace qwb {
namespace {

// On a GPU both models run there.
QualityOptions with_base(QualityOptions options, const std::shared_ptr<const Executor>& executor) {
  if (executor->device() != nullptr) options.base_executor = executor;
  return options;
}

}  // namespace

Evaluation::Evaluation(EvaluationOptions options, const Context& context)
    : options_(std::move(options)),
      context_(context),
      executor_(make_executor(options_.device, options_.int8_forward, context.threads)),
      quality_(with_base(options_.quality, executor_), context) {
  if (options_.speed_options.repetitions < 1)
    throw Error(ErrorKind::usage, "at least one repetition is needed");
  if (options_.energy) meter_ = std::make_unique<EnergyMeter>(options_.energy_options);
}

bool Evaluation::measure(const Subject& subject, EvaluationRecord& record) {
  kv_tokens_ = 0;
  const bool timed = measure_speed_of(subject, record);
  measure_energy_of(subject, record);
  Quality::Meter meter;
  if (meter_) {
    meter.before = [this, &record] { begin_perplexity_energy(record.artifact); };
    meter.after = [this, &record](int64_t tokens) { end_perplexity_energy(record, tokens); };
  }
  const bool ran = quality_.measure(subject, record.int8_forward, record.quality, meter);
  if (record.quality.perplexity && !options_.speed) kv_tokens_ = record.quality.perplexity->context;
  return ran || timed;
}

EvaluationRecord Evaluation::run(const Path& folder) {
  EvaluationRecord record;
  record.artifact = folder.string();
  reset_memory_ledger_peaks();
  peak_reset_ = reset_memory_peak();
  const Subject subject = open_subject(
      folder,
      {.executor = executor_, .tokenizer = quality_.needs_tokenizer(), .attach = options_.attach},
      context_);
  require_int8_modules(*subject.model, options_.int8_forward, record.artifact);
  record.int8_forward = int8_forward_json(*subject.model, options_.int8_forward);
  record.method = subject.method;
  record.adapters = subject.additions;
  record.bits = subject.bits;
  record.bpw = subject.bpw;
  record.bytes = subject.tensor_bytes;
  // Of the speed's work where there is one: it was the same for every model then, and is what is
  // kept.
  if (measure(subject, record) && record.memory.is_null()) account_memory(subject, record);
  quality_.compare(subject, record.int8_forward, record.quality);
  if (record.speed.is_null() && !record.quality.measured() && !record.quality.problems.empty())
    throw record.quality.problems.front();
  return record;
}

}  // namespace qwb
