// What the engine is asked for, and whom it tells what becomes of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/stop.h"
#include "lib/model/sampling.h"
#include "lib/tensor/matrix.h"

namespace qwb::serve {

struct TokenChance {
  int32_t token;
  double logprob;  // natural logarithm of its probability under the model itself: before
                   // temperature, penalties and cuts
};

// A token of a text and, if they were asked for, what the model thought of it.
struct ScoredToken {
  int32_t token;
  std::optional<double> logprob = {};
  std::vector<TokenChance> top = {};  // the likeliest at its place, best first
  int64_t offset = 0;                 // characters of the text before it
};

// What was added to an answer: text that no later token changes, and the tokens that it ends.
struct TextPiece {
  std::string text;                 // valid UTF-8, whole characters
  std::vector<ScoredToken> tokens;  // in order; of a token that a stop string cut, the text is cut
  bool empty() const { return text.empty() && tokens.empty(); }
};

enum class Finish {
  stop,    // an end token or a stop string
  length,  // max_tokens, or the context is full
};

struct JobCounts {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;     // of them, taken over from an earlier prompt
  int64_t generated_tokens = 0;  // of all choices; end tokens and what a stop string cut included
  double queue_seconds = 0;
  double prefill_seconds = 0;  // from the first piece of the prompt to the first token
  double decode_seconds = 0;   // from there to the last token
  double busy_seconds = 0;     // its share, by rows, of the steps that it had a part in
};

// Called by the engine's thread, which waits: it must be quick and must not throw.
class JobListener {
 public:
  virtual ~JobListener() = default;
  // The prompt's tokens but the first, which nothing stands before: only if they were asked for.
  virtual void prompt_scored(std::vector<ScoredToken> tokens) = 0;
  // Every token that is made, also the one that ends the text, before its text is told.
  virtual void token(int64_t /*choice*/, const ScoredToken& /*token*/) {}
  virtual void text(int64_t choice, TextPiece piece) = 0;
  virtual void finished(int64_t choice, Finish finish) = 0;
  // One of these two is the last call.
  virtual void done(const JobCounts& counts) = 0;
  virtual void failed(const Error& error, const JobCounts& counts) = 0;
};

// Takes the final hidden states of a prompt's tokens while it is read. Called by the engine's
// thread, as part of the step: it may compute with the model. What it throws fails the job.
class RowReader {
 public:
  virtual ~RowReader() = default;
  // f32 [rows, hidden], of the prompt's tokens from `first` on; they lie on the model's executor
  // and are gone after the call.
  virtual void rows(In hidden, int64_t first) = 0;
};

// A prompt to go on with.
struct Job {
  std::vector<int32_t> prompt;  // at least one token
  SamplingSettings sampling;    // choice i draws with its seed + i
  int64_t max_tokens = 0;       // 0: the prompt is read and nothing made
  int64_t choices = 1;
  std::vector<std::string> stop;    // none of them empty
  std::vector<int32_t> end_tokens;  // empty: only max_tokens or the context end an answer
  std::optional<int64_t> top;       // logprobs of the tokens and so many alternatives
  bool score_prompt = false;        // logprobs of the prompt's tokens too
  bool reuse_prefix = true;
  std::string owner;                       // prompts of different owners share nothing
  StopToken stopped;                       // who asked has gone
  StopToken cut = {};                      // who asked wants no more of this one
  std::shared_ptr<RowReader> reader = {};  // null: nobody reads the prompt's hidden states
  std::shared_ptr<JobListener> listener;

  bool stop_requested() const { return stopped.requested() || cut.requested(); }
};

}  // namespace qwb::serve
