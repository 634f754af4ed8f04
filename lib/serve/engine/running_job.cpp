#include "lib/serve/engine/running_job.h"

#include <algorithm>
#include <utility>

#include "lib/base/parallel.h"
#include "lib/serve/engine/copy_cache.h"
#include "lib/serve/engine/scores.h"

namespace qwb::serve {
namespace {

// Rows whose logits are held at once while a prompt is scored. A piece is cut at the same places
// whatever runs beside it.
constexpr int64_t kScoredRows = 16;

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

int64_t cache_tokens(const EngineModel& model, const Job& job) {
  const int64_t made = std::clamp<int64_t>(job.max_tokens - 1, 0, model.context);
  return std::max(std::ssize(job.prompt), std::min(model.context, std::ssize(job.prompt) + made));
}

int64_t cache_bytes(const EngineModel& model, const Job& job) {
  return job.choices * kv_cache_bytes(model.model->config(), cache_tokens(model, job));
}

RunningJob::RunningJob(const EngineModel& model, Job job, double queue_seconds)
    : model_(model), job_(std::move(job)), bytes_(cache_bytes(model_, job_)) {
  counts_.prompt_tokens = std::ssize(job_.prompt);
  counts_.queue_seconds = queue_seconds;
  choices_.push_back(new_choice(0));
}

std::unique_ptr<RunningJob::Choice> RunningJob::new_choice(int64_t index) const {
  SamplingSettings sampling = job_.sampling;
  sampling.seed += static_cast<uint64_t>(index);
  return std::make_unique<Choice>(
      Choice{model_.model->new_cache(cache_tokens(model_, job_)), Sampler(sampling), job_.prompt,
             TextStream(model_.tokenizer->stream(true), job_.prompt, job_.stop)});
}

void RunningJob::take_prefix(PrefixStore& prefixes) {
  // The logits of a prompt's tokens come from their hidden states, which nobody keeps.
  if (!job_.reuse_prefix || job_.score_prompt || job_.reader != nullptr) return;
  const PrefixStore::Hit hit = prefixes.find(*model_.model, job_.owner, job_.prompt);
  if (hit.tokens == 0) return;
  copy_cache(*model_.model, *hit.cache, hit.tokens, cache(0));
  read_ = counts_.cached_tokens = hit.tokens;
}

std::span<const int32_t> RunningJob::next_piece(int64_t piece) const {
  const std::span left = std::span<const int32_t>(job_.prompt).subspan(static_cast<size_t>(read_));
  return left.first(static_cast<size_t>(std::min(piece - read_ % piece, std::ssize(left))));
}

void RunningJob::piece_read(In hidden) {
  if (job_.score_prompt) {
    for (int64_t row = 0; row < hidden.rows; row += kScoredRows)
      score_prompt(hidden.row_range(row, std::min(kScoredRows, hidden.rows - row)), read_ + row);
  }
  if (job_.reader != nullptr) job_.reader->rows(hidden, read_);
  read_ += hidden.rows;
  if (!reading()) prompt_read();
}

// Each of the rows tells the token behind its own.
void RunningJob::score_prompt(In hidden, int64_t first) {
  const Executor& executor = model_.model->executor();
  const Matrix logits = executor.allocate(hidden.rows, model_.model->config().vocab);
  model_.model->logits(hidden, logits);
  const int64_t count = std::min(hidden.rows, std::ssize(job_.prompt) - 1 - first);
  const size_t before = scored_.size();
  scored_.resize(before + static_cast<size_t>(std::max<int64_t>(count, 0)));
  parallel_for(executor.threads(), count, [&](int64_t row) {
    const std::vector<float> values = executor.download(logits.view().row_range(row, 1));
    scored_[before + static_cast<size_t>(row)] =
        scored_token(values, job_.prompt[static_cast<size_t>(first + row + 1)], *job_.top);
  });
}

void RunningJob::prompt_read() {
  for (int64_t i = 1; i < job_.choices; ++i) {
    choices_.push_back(new_choice(i));
    copy_cache(*model_.model, prompt_cache(), read_, choices_.back()->cache);
  }
  if (job_.score_prompt) job_.listener->prompt_scored(std::move(scored_));
  if (job_.max_tokens > 0) return;
  counts_.prefill_seconds = seconds_between(start_, Clock::now());
  for (size_t i = 0; i < choices_.size(); ++i) finish(i, Finish::length);
}

ScoredToken RunningJob::draw(size_t choice, std::span<const float> logits) {
  Choice& c = *choices_[choice];
  const std::span<const int32_t> seen = c.tokens;
  const int32_t token = c.sampler.next(logits, seen, seen.subspan(job_.prompt.size()));
  return job_.top ? scored_token(logits, token, *job_.top) : ScoredToken{token};
}

void RunningJob::add(size_t choice, ScoredToken token) {
  Choice& c = *choices_[choice];
  const auto now = Clock::now();
  if (!first_token_) {
    first_token_ = now;
    counts_.prefill_seconds = seconds_between(start_, now);
  }
  counts_.decode_seconds = seconds_between(*first_token_, now);
  ++counts_.generated_tokens;
  job_.listener->token(static_cast<int64_t>(choice), token);
  if (std::find(job_.end_tokens.begin(), job_.end_tokens.end(), token.token) !=
      job_.end_tokens.end())
    return finish(choice, Finish::stop);
  c.tokens.push_back(token.token);
  ++c.made;
  TextPiece piece = c.text.push(std::move(token));
  if (!piece.empty()) job_.listener->text(static_cast<int64_t>(choice), std::move(piece));
  if (c.text.stopped()) return finish(choice, Finish::stop);
  if (c.made == job_.max_tokens || c.cache.length() == c.cache.capacity())
    finish(choice, Finish::length);
}

void RunningJob::finish(size_t choice, Finish reason) {
  Choice& c = *choices_[choice];
  c.finished = true;
  ++finished_;
  if (c.made > 0 && !c.text.stopped()) {
    TextPiece rest = c.text.finish();
    if (!rest.empty()) job_.listener->text(static_cast<int64_t>(choice), std::move(rest));
    if (c.text.stopped()) reason = Finish::stop;
  }
  job_.listener->finished(static_cast<int64_t>(choice), reason);
}

void RunningJob::tell_done() {
  job_.listener->done(counts_);
}

void RunningJob::tell_failed(const Error& error) {
  job_.listener->failed(error, counts_);
}

}  // namespace qwb::serve
