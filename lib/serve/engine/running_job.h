// A job that has its place: its prompt is read piece by piece, then its choices grow by a token a
// step.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lib/model/model.h"
#include "lib/model/sampling.h"
#include "lib/serve/engine/job.h"
#include "lib/serve/engine/prefix_store.h"
#include "lib/serve/engine/text_stream.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb::serve {

// What the engine runs. The two live as long as the engine.
struct EngineModel {
  const Model* model = nullptr;
  const Tokenizer* tokenizer = nullptr;
  int64_t context = 0;  // tokens that a sequence may look back on
};

// Tokens that a choice of the job may come to hold in its cache. The last token that is made needs
// no place: nothing follows it.
int64_t cache_tokens(const EngineModel& model, const Job& job);
// Of the caches of all its choices.
int64_t cache_bytes(const EngineModel& model, const Job& job);

class RunningJob {
 public:
  RunningJob(const EngineModel& model, Job job, double queue_seconds);

  const EngineModel& model() const { return model_; }
  const Job& job() const { return job_; }
  int64_t bytes() const { return bytes_; }
  bool reading() const { return read_ < std::ssize(job_.prompt); }
  bool done() const { return !reading() && finished_ == job_.choices; }
  JobCounts counts() const { return counts_; }
  void add_busy(double seconds) { counts_.busy_seconds += seconds; }

  // Takes over what is kept of the prompt's beginning.
  void take_prefix(PrefixStore& prefixes);
  // The next piece of the prompt: it ends at a multiple of `piece`, or with the prompt.
  std::span<const int32_t> next_piece(int64_t piece) const;
  // It was read, and these are its final hidden states. Throws what Model::logits throws.
  void piece_read(In hidden);
  // The prompt's keys and values, once it is read.
  KvCache& prompt_cache() { return choices_.front()->cache; }

  size_t choices() const { return choices_.size(); }  // 1 until the prompt is read
  bool finished(size_t choice) const { return choices_[choice]->finished; }
  KvCache& cache(size_t choice) { return choices_[choice]->cache; }
  std::span<const int32_t> last_token(size_t choice) const {
    return std::span(choices_[choice]->tokens).last(1);
  }
  // Draws the next token of a choice. Different choices may be called by different threads.
  ScoredToken draw(size_t choice, std::span<const float> logits);
  // Takes it into the answer, and tells the listener.
  void add(size_t choice, ScoredToken token);
  void tell_done();
  void tell_failed(const Error& error);

 private:
  using Clock = std::chrono::steady_clock;
  struct Choice {
    KvCache cache;
    Sampler sampler;
    std::vector<int32_t> tokens;  // the prompt, and what was made
    TextStream text;
    int64_t made = 0;
    bool finished = false;
  };
  std::unique_ptr<Choice> new_choice(int64_t index) const;
  void score_prompt(In hidden, int64_t first);
  void prompt_read();
  void finish(size_t choice, Finish reason);

  EngineModel model_;
  Job job_;
  int64_t bytes_;
  int64_t read_ = 0;  // tokens of the prompt that are in the cache
  int64_t finished_ = 0;
  std::vector<std::unique_ptr<Choice>> choices_;
  std::vector<ScoredToken> scored_;  // the prompt's tokens
  JobCounts counts_;
  Clock::time_point start_ = Clock::now();
  std::optional<Clock::time_point> first_token_;
};

}  // namespace qwb::serve
