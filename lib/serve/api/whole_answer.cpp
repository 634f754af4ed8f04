// An answer that is sent once it is complete.
#include <utility>

#include "lib/serve/api/answer.h"

namespace qwb::serve {
namespace {

class WholeAnswer : public Answer {
 public:
  WholeAnswer(std::shared_ptr<Exchange> exchange, AnswerHead head, CompletionRequest request,
              const Tokenizer& tokenizer, std::vector<Echo> echoes)
      : Answer(std::move(exchange), std::move(head), std::move(request), tokenizer,
               std::move(echoes)),
        made_(static_cast<size_t>(answers())) {}

 protected:
  void text(int64_t index, TextPiece piece) override {
    Made& made = made_[static_cast<size_t>(index)];
    made.text += piece.text;
    for (ScoredToken& token : piece.tokens) made.tokens.push_back(std::move(token));
  }
  void finished(int64_t index, Finish finish) override {
    made_[static_cast<size_t>(index)].finish = finish;
  }
  // The JSON of many logprobs takes a while, in which the engine should go on.
  void complete() override {
    exchange_->later(
        [self = shared_from_this(), this] { exchange_->send({.body = json_line(json()) + "\n"}); });
  }
  void failed(const Error& error) override { send_error(*exchange_, api_error(error)); }

 private:
  struct Made {
    std::string text;
    std::vector<ScoredToken> tokens;
    Finish finish = Finish::stop;
  };

  Json json() {
    Json choices = Json::array();
    for (int64_t i = 0; i < answers(); ++i) choices.push_back(choice(i));
    Json answer = answer_json(head_, object(false), std::move(choices));
    answer["usage"] = usage_json(counts_);
    add_extensions(answer);
    return answer;
  }
  Json choice(int64_t index) const {
    const Made& made = made_[static_cast<size_t>(index)];
    Json choice = {{"index", index}};
    if (request_.chat) {
      choice["message"] = {{"role", "assistant"}, {"content", made.text}, {"refusal", nullptr}};
      choice["logprobs"] = logprobs(index, made.tokens);
    } else {
      add_text(choice, index, made);
    }
    choice["finish_reason"] = finish_name(made.finish);
    if (request_.return_tokens) {
      choice["tokens"] = Json::array();
      for (const ScoredToken& token : made.tokens) choice["tokens"].push_back(token.token);
    }
    return choice;
  }
  // With the prompt before it if that is to be echoed.
  void add_text(Json& choice, int64_t index, const Made& made) const {
    if (echoes_.empty()) {
      choice["text"] = made.text;
      choice["logprobs"] = logprobs(index, made.tokens);
      return;
    }
    const Echo& echo = echoes_[static_cast<size_t>(index / request_.choices)];
    choice["text"] = echo.text + made.text;
    choice["logprobs"] = nullptr;
    if (!request_.top) return;
    Json all = text_logprobs(tokenizer_, echo.tokens, 0);
    const Json own = logprobs(index, made.tokens);
    for (const auto& [key, values] : own.items())
      all[key].insert(all[key].end(), values.begin(), values.end());
    choice["logprobs"] = std::move(all);
  }

  std::vector<Made> made_;
};

}  // namespace

std::shared_ptr<Answer> whole_answer(std::shared_ptr<Exchange> exchange, AnswerHead head,
                                     CompletionRequest request, const Tokenizer& tokenizer,
                                     std::vector<Echo> echoes) {
  return std::make_shared<WholeAnswer>(std::move(exchange), std::move(head), std::move(request),
                                       tokenizer, std::move(echoes));
}

}  // namespace qwb::serve
