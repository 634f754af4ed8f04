#include "lib/jobs/tune_job.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "formats/companions.h"
#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/memory.h"
#include "lib/base/text.h"
#include "lib/jobs/tuning.h"

namespace qwb {
namespace {

using TuneClock = std::chrono::steady_clock;

double seconds_since(TuneClock::time_point begin) {
  return std::chrono::duration<double>(TuneClock::now() - begin).count();
}

// Bytes that a pass takes besides the tape: gradients of one block's widest parts, logits of some
// rows, a slab of dequantized weights and the head's.
int64_t pass_bytes(const ModelConfig& config, int64_t tokens) {
  constexpr int64_t kHeld = 16 << 20;  // floats of logits, and a slab or two of weights
  const int64_t widest = std::max(config.intermediate, config.heads * config.head_dim);
  const int64_t logits =
      std::min(tokens, std::max<int64_t>(16, kHeld / config.vocab)) * config.vocab;
  const int64_t per_token = 3 * widest + 8 * config.hidden;
  return (per_token * tokens + logits + (4 << 20)) * static_cast<int64_t>(sizeof(float));
}

}  // namespace

double peak_megabytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024 / 1e6;
}

Tuning::Tuning(TuneRequest request, std::shared_ptr<const Executor> executor,
               const Context& context)
    : request_(std::move(request)), open_(open_model(request_.model, context)) {
  check_settings(request_.settings);
  model_ = std::make_unique<TapedModel>(open_.source, open_.config, open_.config_name(),
                                        std::move(executor));
  modules_ = tuned_modules(model_->modules(), request_.settings.targets);
  tokenizer_ = open_tokenizer(open_);
  template_ = tune_template(open_, request_.chat_template, *tokenizer_);
  read_data(context);
  plan_memory();
  trainer_ = std::make_unique<Trainer>(*model_, request_.settings, modules_, data_.train,
                                       data_.held, machine_);
  plan_.modules = std::ssize(modules_);
  plan_.values = trainer_->values();
  plan_.documents = std::ssize(data_.train.documents);
  plan_.tokens = data_.train.tokens();
  plan_.supervised = data_.train.supervised();
  plan_.held = std::ssize(data_.held.documents);
  plan_.steps = trainer_->total_steps();
}

void Tuning::read_data(const Context& context) {
  DocumentRequest wanted;
  wanted.file = request_.file;
  wanted.length = request_.settings.length;
  wanted.prompt_weight = request_.settings.completions ? request_.settings.prompt_weight : 1;
  wanted.end_tokens = template_.end_tokens;
  DocumentSet all = read_documents(wanted, *tokenizer_, template_.render, context);
  tell_data(all, context);
  const auto count = std::ssize(all.documents);
  int64_t held = request_.settings.holdout;
  if (held > count / 5) {
    held = count / 5;
    context.progress->note("only " + std::to_string(held) + " of " + std::to_string(count) +
                           " documents are held out");
  }
  request_.settings.holdout = held;
  data_ = hold_out(std::move(all), held);
}

void Tuning::tell_data(const DocumentSet& all, const Context& context) const {
  const auto note = [&](int64_t count, const std::string& text) {
    if (count > 0) context.progress->note(std::to_string(count) + text);
  };
  if (all.has_turns && template_.is_ours && !request_.chat_template) {
    context.progress->note(
        "the model has no chat template: conversations are written with their roles as text");
  }
  note(all.cut, " documents are longer than " + std::to_string(request_.settings.length) +
                    " tokens: their ends are cut off");
  note(all.left_out, " rows are left out: nothing of them would be learned");
  note(all.answers - all.ended,
       " of " + std::to_string(all.answers) +
           " answers have no token that ends a text: a model tuned on them may never stop");
}

void Tuning::plan_memory() {
  const int64_t layers = model_->config().layers;
  const int64_t limit = request_.max_memory > 0 ? request_.max_memory : available_memory();
  int64_t factors = 0;
  for (const LinearSpec& spec : modules_) factors += TrainedModule::bytes(spec, request_.settings);
  factors += factors * 3 / 4;  // a state on its way to the disk: all but the gradients
  int64_t longest = 0;
  for (const TrainingDocument& document : data_.train.documents)
    longest = std::max<int64_t>(longest, std::ssize(document.tokens));
  const auto so_far = static_cast<int64_t>(peak_megabytes() * 1e6);  // data and tokenizer
  const auto total = [&](int64_t tokens, int64_t kept) {
    return so_far + open_.weight_bytes + factors + model_->tape_bytes(tokens, kept) +
           pass_bytes(model_->config(), tokens);
  };
  int64_t tokens = request_.micro_tokens > 0 ? request_.micro_tokens : request_.settings.length;
  if (request_.micro_tokens == 0 && total(tokens, 1) > limit) tokens = longest;
  tokens = std::max(tokens, longest);
  int64_t kept = request_.recompute == Recompute::off ? layers : 1;
  if (request_.recompute == Recompute::automatic) {
    while (kept < layers && total(tokens, kept + 1) < limit / 2) ++kept;
  }
  machine_ = {.micro_tokens = tokens, .kept_blocks = kept};
  plan_.micro_tokens = tokens;
  plan_.kept_blocks = kept;
  plan_.memory = total(tokens, kept);
  if (plan_.memory <= limit) return;
  throw Error(ErrorKind::failed,
              "this run takes " + human_bytes(plan_.memory) + " of memory, " + human_bytes(limit) +
                  (request_.max_memory > 0 ? " are allowed" : " are free"),
              {}, "a smaller --length, --rank or --micro-tokens takes less");
}

Json Tuning::plan_json() const {
  return {{"modules", plan_.modules},
          {"values", plan_.values},
          {"documents", plan_.documents},
          {"tokens", plan_.tokens},
          {"supervised_tokens", plan_.supervised},
          {"held_out", plan_.held},
          {"steps", plan_.steps},
          {"micro_tokens", plan_.micro_tokens},
          {"kept_blocks", plan_.kept_blocks},
          {"blocks", model_->config().layers},
          {"memory_bytes", plan_.memory},
          {"template", template_.origin},
          {"settings", request_.settings.json()}};
}

double Tuning::estimate_seconds(const Context& context) const {
  // One group as the steps have them, cut to what shows the speed.
  constexpr int64_t kSample = 512;
  std::vector<TrainingDocument> few;
  int64_t tokens = 0;
  for (const TrainingDocument& document : data_.train.documents) {
    const int64_t room = std::min(kSample, machine_.micro_tokens) - tokens;
    if (room < 2) break;
    few.push_back(document);
    const auto size = static_cast<size_t>(std::min<int64_t>(room, std::ssize(document.tokens)));
    few.back().tokens.resize(size);
    few.back().weights.resize(size);
    tokens += static_cast<int64_t>(size);
  }
  std::vector<size_t> all(few.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  TrainingRows rows = rows_of(few, all, 1, 0, 0);
  if (rows.targets.empty()) rows.targets.push_back({0, few.front().tokens.back(), 1});
  model_->losses(rows, context.stop);  // weights come into memory
  const auto begin = TuneClock::now();
  model_->gradients(rows, machine_.kept_blocks, context.stop);
  const double each = seconds_since(begin) / static_cast<double>(tokens);
  const double epochs = static_cast<double>(plan_.steps * request_.settings.batch) /
                        static_cast<double>(plan_.documents);
  // Measuring takes a third of a step's work: forward alone.
  const double held = static_cast<double>(data_.held.tokens()) / 3 *
                      (2 + epochs / std::max(request_.eval_every, 1e-9));
  return each * (epochs * static_cast<double>(plan_.tokens) + held);
}

TuneJob::TuneJob(TuneRequest request, std::shared_ptr<const Executor> executor,
                 const Context& context)
    : tuning_(std::make_unique<Tuning>(std::move(request), std::move(executor), context)) {}
TuneJob::TuneJob(TuneJob&&) noexcept = default;
TuneJob::~TuneJob() = default;

const TunePlan& TuneJob::plan() const {
  return tuning_->plan();
}
Json TuneJob::plan_json() const {
  return tuning_->plan_json();
}
std::string TuneJob::sample() const {
  return tuning_->sample();
}
double TuneJob::estimate_seconds(const Context& context) const {
  return tuning_->estimate_seconds(context);
}
Json TuneJob::run(const Context& context, const std::function<void(const Json&)>& record) {
  return tuning_->run(context, record);
}

}  // namespace qwb
