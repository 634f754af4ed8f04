// An answer that is sent as server-sent events while it is made.
#include <utility>

#include "lib/serve/api/answer.h"

namespace qwb::serve {
namespace {

class StreamedAnswer : public Answer {
 public:
  StreamedAnswer(std::shared_ptr<Exchange> exchange, AnswerHead head, CompletionRequest request,
                 const Tokenizer& tokenizer, std::vector<Echo> echoes)
      : Answer(std::move(exchange), std::move(head), std::move(request), tokenizer,
               std::move(echoes)),
        echoed_(static_cast<size_t>(answers())) {}

  // The role comes once, before any text: clients begin a message with it.
  void begin() override {
    exchange_->begin_stream();
    if (!request_.chat) return;
    std::string frames;
    for (int64_t i = 0; i < answers(); ++i)
      frames += chunk({{"index", i},
                       {"delta", {{"role", "assistant"}, {"content", ""}}},
                       {"logprobs", nullptr},
                       {"finish_reason", nullptr}});
    exchange_->write(std::move(frames));
  }

 protected:
  void text(int64_t index, TextPiece piece) override {
    echo(index);
    exchange_->write(piece_chunk(index, piece.text, logprobs(index, piece.tokens), piece.tokens));
  }
  void finished(int64_t index, Finish finish) override {
    echo(index);
    Json choice = {{"index", index}};
    if (request_.chat)
      choice["delta"] = Json::object();
    else
      choice["text"] = "";
    choice["logprobs"] = nullptr;
    choice["finish_reason"] = finish_name(finish);
    exchange_->write(chunk(std::move(choice)));
  }
  // A meter may let its last reading wait.
  void complete() override {
    if (meter_ == nullptr) return end();
    exchange_->later([self = shared_from_this(), this] { end(); });
  }
  // Too late for a status.
  void failed(const Error& error) override {
    exchange_->write(event_of(api_error(error).json()));
    exchange_->end_stream();
  }

 private:
  void end() {
    std::string frames;
    if (request_.include_usage) {
      Json last = answer_json(head_, object(true), Json::array());
      last["usage"] = usage_json(counts_);
      add_extensions(last);
      frames = event_of(last);
    } else if (meter_ != nullptr) {
      meter_->drop();
    }
    exchange_->write(frames + event_line("[DONE]"));
    exchange_->end_stream();
  }
  std::string chunk(Json choice) const {
    Json json = answer_json(head_, object(true), Json::array({std::move(choice)}));
    if (request_.include_usage) json["usage"] = nullptr;
    return event_of(json);
  }
  std::string piece_chunk(int64_t index, const std::string& text, Json scores,
                          const std::vector<ScoredToken>& tokens) const {
    Json choice = {{"index", index}};
    if (request_.chat)
      choice["delta"] = {{"content", text}};
    else
      choice["text"] = text;
    choice["logprobs"] = std::move(scores);
    choice["finish_reason"] = nullptr;
    if (request_.return_tokens) {
      choice["tokens"] = Json::array();
      for (const ScoredToken& token : tokens) choice["tokens"].push_back(token.token);
    }
    return chunk(std::move(choice));
  }
  void echo(int64_t index) {
    if (echoes_.empty() || std::exchange(echoed_[static_cast<size_t>(index)], 1) != 0) return;
    const Echo& prompt = echoes_[static_cast<size_t>(index / request_.choices)];
    const Json scores = request_.top ? text_logprobs(tokenizer_, prompt.tokens, 0) : Json(nullptr);
    exchange_->write(piece_chunk(index, prompt.text, scores, {}));
  }

  std::vector<char> echoed_;  // by choice
};

}  // namespace

std::shared_ptr<Answer> streamed_answer(std::shared_ptr<Exchange> exchange, AnswerHead head,
                                        CompletionRequest request, const Tokenizer& tokenizer,
                                        std::vector<Echo> echoes) {
  return std::make_shared<StreamedAnswer>(std::move(exchange), std::move(head), std::move(request),
                                          tokenizer, std::move(echoes));
}

}  // namespace qwb::serve
