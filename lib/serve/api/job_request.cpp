#include "lib/serve/api/job_request.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/serve/api/api_error.h"

namespace qwb::serve {
namespace {

void check_prompt(const ServedModel& model, const std::vector<int32_t>& tokens,
                  const std::string& param) {
  const int64_t vocab = model.loaded.model->config().vocab;
  for (const int32_t token : tokens) {
    if (token >= vocab)
      throw ApiError(400, fmt::format("{}: the model has no token {}", param, token), param);
  }
  if (tokens.empty())
    throw ApiError(400, param + ": is empty, and the tokenizer has no token to begin with", param);
  const auto count = std::ssize(tokens);
  if (count <= model.context) return;
  throw ApiError(400,
                 fmt::format("context_length_exceeded: the prompt has {} tokens, the context {}",
                             count, model.context),
                 param, "context_length_exceeded")
      .with({{"n_prompt_tokens", count}, {"n_ctx", model.context}});
}

}  // namespace

void read_tokens(const ServedModel& model, CompletionRequest& request) {
  const Tokenizer& tokenizer = *model.loaded.tokenizer;
  // A template writes the special tokens itself.
  if (request.chat) request.prompts = {{model.rendered(request), std::nullopt}};
  for (Prompt& prompt : request.prompts) {
    if (!prompt.tokens) prompt.tokens = tokenizer.encode(prompt.text, !request.chat);
    check_prompt(model, *prompt.tokens, request.chat ? "messages" : "prompt");
  }
}

Job job_of(const ServedModel& model, const CompletionRequest& request,
           const std::vector<int32_t>& tokens, const Service& service) {
  Job job;
  job.prompt = tokens;
  job.sampling = request.sampling;
  const int64_t room = model.context - std::ssize(tokens) + 1;
  const auto wanted = request.max_tokens ? request.max_tokens : service.settings().max_tokens;
  job.max_tokens = std::min(wanted.value_or(room), room);
  job.choices = request.choices;
  job.stop = request.stop;
  if (!request.ignore_eos) job.end_tokens = model.end_tokens;
  job.top = request.top;
  job.score_prompt = request.echo && request.top;
  job.reuse_prefix = request.cache_prompt;
  return job;
}

}  // namespace qwb::serve
