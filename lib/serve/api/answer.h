// What the engine makes of a request, on its way to whoever asked: as one answer or as a stream.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/serve/api/answer_json.h"
#include "lib/serve/api/answer_meter.h"
#include "lib/serve/api/api_error.h"
#include "lib/serve/api/completion_request.h"
#include "lib/serve/api/exchange.h"
#include "lib/serve/engine/job.h"
#include "lib/serve/engine/text_stream.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb::serve {

// The prompt of a text as the answer repeats it.
struct Echo {
  std::string text;
  std::vector<ScoredToken> tokens;  // the prompt's, with their places in the text; logprobs come
};

// Listens to all jobs of a request: one for every prompt. Choice c of prompt p has the index
// p * choices + c. Called by the engine's thread alone once the first job runs.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  // `echoes`: of every prompt, or none.
  Answer(std::shared_ptr<Exchange> exchange, AnswerHead head, CompletionRequest request,
         const Tokenizer& tokenizer, std::vector<Echo> echoes);
  virtual ~Answer() = default;
  // Measures its joules. Before the engine has the jobs; null: they are not told.
  void measure(std::unique_ptr<MeteredRequest> meter) { meter_ = std::move(meter); }
  // Before the first job runs.
  virtual void begin() {}
  // Who listens to the job of prompt `index`.
  static std::shared_ptr<JobListener> listener(const std::shared_ptr<Answer>& answer,
                                               int64_t index);

 protected:
  class Part;
  virtual void text(int64_t index, TextPiece piece) = 0;
  virtual void finished(int64_t index, Finish finish) = 0;
  virtual void complete() = 0;                  // all jobs are done
  virtual void failed(const Error& error) = 0;  // one was not; called once, and nothing after it

  int64_t answers() const { return std::ssize(request_.prompts) * request_.choices; }
  const char* object(bool chunk) const;
  // {"index", "message" or "delta" or "text", "logprobs", "finish_reason"}
  Json logprobs(int64_t index, const std::vector<ScoredToken>& tokens) const;
  void note_counts(const JobCounts& counts);
  // "timings" and "qwb": what the API has no place for. Ends the measurement of joules, which may
  // take a while.
  void add_extensions(Json& json);

  std::shared_ptr<Exchange> exchange_;
  const AnswerHead head_;
  const CompletionRequest request_;
  const Tokenizer& tokenizer_;
  std::vector<Echo> echoes_;
  JobCounts counts_;  // of all prompts
  std::unique_ptr<MeteredRequest> meter_;
  int64_t jobs_done_ = 0;
  bool began_ = false;  // a token was made
  bool over_ = false;
};

std::shared_ptr<Answer> whole_answer(std::shared_ptr<Exchange> exchange, AnswerHead head,
                                     CompletionRequest request, const Tokenizer& tokenizer,
                                     std::vector<Echo> echoes);
std::shared_ptr<Answer> streamed_answer(std::shared_ptr<Exchange> exchange, AnswerHead head,
                                        CompletionRequest request, const Tokenizer& tokenizer,
                                        std::vector<Echo> echoes);

// Answers with an error, and notes it for the log.
void send_error(Exchange& exchange, const ApiError& error);

}  // namespace qwb::serve
