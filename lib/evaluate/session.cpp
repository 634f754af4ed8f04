#include "lib/evaluate/session.h"

#include <algorithm>
#include <utility>

#include "lib/base/error.h"
#include "lib/kernels/isa.h"

namespace qwb {
Evaluation::Evaluation(EvaluationOptions options, Progress& progress)
    : options_(std::move(options)),
      progress_(progress),
      int8_(make_int8_backend(options_.int8_forward)),
      quality_(options_.quality, progress) {
  if (options_.repetitions < 1) throw Error(ErrorKind::usage, "at least one repetition is needed");
  if (options_.energy) meter_ = std::make_unique<EnergyMeter>(options_.energy_options);
}

void Evaluation::stop_energy(EvaluationRecord& record, const std::string& work, int64_t tokens) {
  record.energy.push_back({work, tokens, meter_->stop()});
}

bool Evaluation::measure(const Subject& subject, EvaluationRecord& record) {
  if (options_.speed) {
    SpeedOptions speed;
    speed.repetitions = options_.repetitions;
    if (meter_) {
      speed.before = [this](const std::string&) { meter_->start(); };
      speed.after = [this, &record](const std::string& phase, int64_t tokens) {
        stop_energy(record, phase, tokens);
      };
    }
    record.speed = measure_speed(*subject.model, speed, progress_);
    record.kv_tokens = std::max(record.speed->prompt_tokens, record.speed->generated_tokens);
  }
  Quality::Meter meter;
  if (meter_) {
    meter.before = [this] { meter_->start(); };
    meter.after = [this, &record](int64_t tokens) { stop_energy(record, "perplexity", tokens); };
  }
  const bool ran = quality_.measure(subject, record.int8_forward, record.quality, meter);
  if (record.quality.perplexity)
    record.kv_tokens = std::max(record.kv_tokens, record.quality.perplexity->context);
  return ran || options_.speed;
}

EvaluationRecord Evaluation::run(const Path& folder) {
  EvaluationRecord record;
  record.artifact = folder.string();
  record.peak_reset = reset_memory_peak();
  const Subject subject =
      open_subject(folder, quality_.needs_tokenizer(), int8_ != nullptr ? *int8_ : fast_backend());
  require_int8_modules(*subject.model, options_.int8_forward, record.artifact);
  record.int8_forward = int8_forward_json(*subject.model, options_.int8_forward);
  record.method = subject.method;
  record.bits = subject.bits;
  record.bpw = subject.bpw;
  record.bytes = record.weight_bytes = subject.tensor_bytes;
  record.load_seconds = subject.load_seconds;
  record.isa = isa_name();
  if (measure(subject, record)) record.memory = memory_use();
  record.kv_bytes = record.kv_tokens > 0 ? subject.model->new_cache(record.kv_tokens).bytes() : 0;
  quality_.compare(subject, record.int8_forward, record.quality);
  if (!record.speed && !record.quality.measured() && !record.quality.problems.empty())
    throw record.quality.problems.front();
  return record;
}

}  // namespace qwb
