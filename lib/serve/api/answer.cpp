#include "lib/serve/api/answer.h"

#include <utility>

namespace qwb::serve {

// Listens to the job of one prompt.
class Answer::Part : public JobListener {
 public:
  Part(std::shared_ptr<Answer> answer, int64_t prompt)
      : answer_(std::move(answer)), prompt_(prompt) {}

  void prompt_scored(std::vector<ScoredToken> tokens) override {
    std::vector<ScoredToken>& echoed = answer_->echoes_[static_cast<size_t>(prompt_)].tokens;
    for (size_t i = 0; i < tokens.size(); ++i) {
      echoed[i + 1].logprob = tokens[i].logprob;
      echoed[i + 1].top = std::move(tokens[i].top);
    }
  }
  void token(int64_t, const ScoredToken&) override {
    if (answer_->meter_ == nullptr || std::exchange(answer_->began_, true)) return;
    answer_->exchange_->later([answer = answer_] { answer->meter_->prefill_ended(); });
  }
  void text(int64_t choice, TextPiece piece) override {
    if (!answer_->over_) answer_->text(index(choice), std::move(piece));
  }
  void finished(int64_t choice, Finish finish) override {
    if (answer_->over_) return;
    answer_->exchange_->note([&](RequestRecord& r) { r.finish = finish_name(finish); });
    answer_->finished(index(choice), finish);
  }
  void done(const JobCounts& counts) override {
    answer_->note_counts(counts);
    if (answer_->over_ || ++answer_->jobs_done_ < std::ssize(answer_->request_.prompts)) return;
    answer_->over_ = true;
    answer_->complete();
  }
  void failed(const Error& error, const JobCounts& counts) override {
    answer_->note_counts(counts);
    if (std::exchange(answer_->over_, true)) return;
    answer_->exchange_->note([&](RequestRecord& record) {
      record.finish = error.kind() == ErrorKind::interrupted ? "stopped" : "failed";
      record.error = error.what();
    });
    // Its other prompts are of no use any more.
    answer_->exchange_->stop();
    answer_->failed(error);
  }

 private:
  int64_t index(int64_t choice) const { return prompt_ * answer_->request_.choices + choice; }
  std::shared_ptr<Answer> answer_;
  int64_t prompt_;
};

Answer::Answer(std::shared_ptr<Exchange> exchange, AnswerHead head, CompletionRequest request,
               const Tokenizer& tokenizer, std::vector<Echo> echoes)
    : exchange_(std::move(exchange)),
      head_(std::move(head)),
      request_(std::move(request)),
      tokenizer_(tokenizer),
      echoes_(std::move(echoes)) {}

std::shared_ptr<JobListener> Answer::listener(const std::shared_ptr<Answer>& answer,
                                              int64_t index) {
  return std::make_shared<Part>(answer, index);
}

const char* Answer::object(bool chunk) const {
  if (!request_.chat) return "text_completion";
  return chunk ? "chat.completion.chunk" : "chat.completion";
}

Json Answer::logprobs(int64_t index, const std::vector<ScoredToken>& tokens) const {
  if (!request_.top) return nullptr;
  if (request_.chat) return chat_logprobs(tokenizer_, tokens);
  if (echoes_.empty()) return text_logprobs(tokenizer_, tokens, 0);
  const Echo& echo = echoes_[static_cast<size_t>(index / request_.choices)];
  return text_logprobs(tokenizer_, tokens, count_characters(echo.text));
}

// Prompts run one after the other or beside each other: times are those of the last.
void Answer::note_counts(const JobCounts& counts) {
  counts_.prompt_tokens += counts.prompt_tokens;
  counts_.cached_tokens += counts.cached_tokens;
  counts_.generated_tokens += counts.generated_tokens;
  counts_.queue_seconds = counts.queue_seconds;
  counts_.prefill_seconds = counts.prefill_seconds;
  counts_.decode_seconds = counts.decode_seconds;
  exchange_->note([&](RequestRecord& record) {
    record.prompt_tokens = counts_.prompt_tokens;
    record.cached_tokens = counts_.cached_tokens;
    record.generated_tokens = counts_.generated_tokens;
    record.queue_seconds = counts_.queue_seconds;
    record.prefill_seconds = counts_.prefill_seconds;
    record.decode_seconds = counts_.decode_seconds;
  });
}

void Answer::add_extensions(Json& json) {
  json["timings"] = timings_json(counts_);
  json["qwb"] = {{"settings", settings_json(request_.sampling)}};
  if (meter_ != nullptr) json["qwb"]["energy"] = meter_->end(counts_);
}

void send_error(Exchange& exchange, const ApiError& error) {
  exchange.note([&](RequestRecord& record) {
    if (record.error.empty()) record.error = error.what();
  });
  HttpAnswer answer{.status = error.status(), .body = json_line(error.json())};
  if (error.retry_after() > 0)
    answer.headers.emplace_back("Retry-After", std::to_string(error.retry_after()));
  exchange.send(std::move(answer));
}

}  // namespace qwb::serve
