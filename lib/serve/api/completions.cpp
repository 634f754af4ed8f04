// POST /v1/chat/completions and /v1/completions: from a request to jobs of the engine. Everything
// that can fail cheaply fails here, before the first byte of an answer.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/serve/api/answer.h"
#include "lib/serve/api/api_error.h"
#include "lib/serve/api/job_request.h"
#include "lib/serve/api/request_json.h"
#include "lib/serve/api/routes.h"

namespace qwb::serve {
namespace {

// The text of the tokens without those that the tokenizer put before it, and where each begins.
Echo echo_of(const Tokenizer& tokenizer, const Prompt& prompt) {
  Echo echo;
  const std::vector<int32_t>& tokens = *prompt.tokens;
  const std::vector<int32_t> prefix = tokenizer.special_prefix();
  const bool prefixed =
      tokens.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), tokens.begin());
  StreamDecoder decoder = tokenizer.stream(false);
  std::string decoded;
  for (size_t i = 0; i < tokens.size(); ++i) {
    echo.tokens.push_back({.token = tokens[i], .offset = count_characters(decoded)});
    if (!prefixed || i >= prefix.size()) decoded += decoder.push(tokens[i]);
  }
  decoded += decoder.finish();
  echo.text = prompt.text.empty() ? decoded : prompt.text;
  return echo;
}

std::vector<Echo> echoes_of(const ServedModel& model, const CompletionRequest& request) {
  std::vector<Echo> echoes;
  if (!request.echo) return echoes;
  for (const Prompt& prompt : request.prompts)
    echoes.push_back(echo_of(*model.loaded.tokenizer, prompt));
  return echoes;
}

void submit(Service& service, const ServedModel& model, CompletionRequest request,
            const std::shared_ptr<Exchange>& exchange) {
  std::vector<Job> jobs;
  for (const Prompt& prompt : request.prompts) {
    jobs.push_back(job_of(model, request, *prompt.tokens, service));
    jobs.back().owner = exchange->request().owner;
    jobs.back().stopped = exchange->stopped();
    try {
      service.engine().check(model.engine(), jobs.back());
    } catch (const Error& error) {
      throw ApiError(400, error.what(), "n");
    }
  }
  const bool stream = request.stream;
  std::vector<Echo> echoes = echoes_of(model, request);
  const AnswerHead head = service.head(request.chat ? "chatcmpl-" : "cmpl-", model);
  const auto make = stream ? streamed_answer : whole_answer;
  const std::shared_ptr<Answer> answer =
      make(exchange, head, std::move(request), *model.loaded.tokenizer, std::move(echoes));
  for (size_t i = 0; i < jobs.size(); ++i)
    jobs[i].listener = Answer::listener(answer, static_cast<int64_t>(i));
  exchange->note([](RequestRecord& record) { record.generated = true; });
  answer->measure(MeteredRequest::begin(service.settings().meter, service.engine()));
  if (service.engine().submit(model.engine(), std::move(jobs), [&] { answer->begin(); })) return;
  throw ApiError(
      429,
      fmt::format("the queue is full: {} requests wait already", service.settings().engine.queue),
      {}, "queue_full");
}

void complete(Service& service, const std::shared_ptr<Exchange>& exchange, bool chat) {
  const Json body = parse_request(exchange->request().body);
  const ServedModel& model = service.model(requested_model(body));
  exchange->note([&](RequestRecord& record) { record.model = model.name; });
  CompletionRequest request =
      chat ? read_chat_request(body, model.defaults) : read_text_request(body, model.defaults);
  if (!request.seeded && request.sampling.temperature > 0)
    request.sampling.seed = service.random_seed();
  read_tokens(model, request);
  submit(service, model, std::move(request), exchange);
}

}  // namespace

void handle_chat(Service& service, const std::shared_ptr<Exchange>& exchange) {
  complete(service, exchange, true);
}

void handle_text(Service& service, const std::shared_ptr<Exchange>& exchange) {
  complete(service, exchange, false);
}

}  // namespace qwb::serve
