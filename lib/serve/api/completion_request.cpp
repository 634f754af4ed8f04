#include "lib/serve/api/completion_request.h"

#include <algorithm>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/chat_messages.h"
#include "lib/serve/api/fields.h"
#include "lib/serve/api/refused_fields.h"

namespace qwb::serve {
namespace {

// The first of these names that the request has.
template <class Read>
auto first_of(const std::vector<std::string>& names, const Read& read) {
  decltype(read(names.front())) value;
  for (const std::string& name : names) {
    if (!value) value = read(name);
  }
  return value;
}

void read_sampling(const Fields& fields, SamplingSettings& s) {
  s.temperature = fields.number("temperature", 0, 2).value_or(s.temperature);
  // 0 leaves the likeliest token alone, as the smallest positive number does.
  s.top_p = std::max(fields.number("top_p", 0, 1).value_or(s.top_p), 1e-300);
  const auto top_k = fields.integer("top_k", -1, INT32_MAX);  // -1: all, as others write it
  s.top_k = std::max<int64_t>(top_k.value_or(s.top_k), 0);
  s.min_p = fields.number("min_p", 0, 1).value_or(s.min_p);
  s.repetition_penalty = first_of({"repetition_penalty", "repeat_penalty"}, [&](const auto& name) {
                           return fields.number(name, 0.01, 100);
                         }).value_or(s.repetition_penalty);
  s.frequency_penalty = fields.number("frequency_penalty", -2, 2).value_or(s.frequency_penalty);
  s.presence_penalty = fields.number("presence_penalty", -2, 2).value_or(s.presence_penalty);
}

void read_seed(const Fields& fields, CompletionRequest& r) {
  const Json* seed = fields.find("seed");
  if (seed == nullptr) return;
  r.seeded = true;
  r.sampling.seed = seed->is_number_unsigned()
                        ? seed->get<uint64_t>()
                        : static_cast<uint64_t>(*fields.integer("seed", INT64_MIN, INT64_MAX));
}

std::optional<int64_t> read_max_tokens(const Fields& fields, int64_t least) {
  std::optional<int64_t> wanted;
  for (const char* name : {"max_completion_tokens", "max_tokens", "n_predict"}) {
    const auto given = fields.integer(name, -1, INT32_MAX);
    if (!given || *given == -1) continue;  // -1: no limit, as others write it
    if (*given < least) fields.refuse(name, "must be at least " + std::to_string(least));
    if (wanted && *wanted != *given) fields.refuse(name, "differs from max_completion_tokens");
    wanted = given;
  }
  return wanted;
}

std::vector<std::string> read_stop(const Fields& fields) {
  const Json* value = fields.find("stop");
  if (value == nullptr) return {};
  std::vector<std::string> stop;
  for (const Json& one : value->is_array() ? *value : Json::array({*value})) {
    if (!one.is_string() || one.get_ref<const std::string&>().empty() ||
        one.get_ref<const std::string&>().size() > kLongestStop)
      fields.refuse("stop", "must be a string of 1 to 1000 bytes, or a list of them");
    stop.push_back(one.get<std::string>());
  }
  if (stop.size() > kMostStops) fields.refuse("stop", "at most 16 strings are looked for");
  return stop;
}

void read_stream(const Fields& fields, CompletionRequest& r) {
  r.stream = fields.boolean("stream").value_or(false);
  const Json* options = fields.find("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) fields.refuse("stream_options", "must be an object");
  r.include_usage = Fields(*options, "stream_options.").boolean("include_usage").value_or(false);
}

// What both kinds share.
CompletionRequest read_common(const Json& request, const SamplingSettings& defaults, bool chat) {
  refuse_unimplemented(request, chat);
  const Fields fields(request);
  CompletionRequest r;
  r.chat = chat;
  r.sampling = defaults;
  read_sampling(fields, r.sampling);
  read_seed(fields, r);
  r.max_tokens = read_max_tokens(fields, chat ? 1 : 0);
  r.stop = read_stop(fields);
  r.choices = fields.integer("n", 1, kMostAnswers).value_or(1);
  read_stream(fields, r);
  r.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  r.cache_prompt = fields.boolean("cache_prompt").value_or(true);
  r.return_tokens = fields.boolean("return_tokens").value_or(false);
  return r;
}

bool is_token_list(const Json& value) {
  return value.is_array() && !value.empty() && value.front().is_number();
}

Prompt read_prompt(const Json& value, const Fields& fields) {
  if (value.is_string()) return {value.get<std::string>(), std::nullopt};
  if (!is_token_list(value))
    fields.refuse("prompt", "must be a string, a list of token ids, or a list of either");
  std::vector<int32_t> tokens;
  for (const Json& token : value) {
    const bool id = token.is_number_unsigned() && token.get<uint64_t>() <= INT32_MAX;
    if (!id) fields.refuse("prompt", "holds what is no token id");
    tokens.push_back(token.get<int32_t>());
  }
  return {{}, std::move(tokens)};
}

std::vector<Prompt> read_prompts(const Fields& fields) {
  const Json* value = fields.find("prompt");
  if (value == nullptr) fields.refuse("prompt", "is missing");
  if (!value->is_array() || is_token_list(*value)) return {read_prompt(*value, fields)};
  std::vector<Prompt> prompts;
  for (const Json& one : *value) prompts.push_back(read_prompt(one, fields));
  if (prompts.empty()) fields.refuse("prompt", "is an empty list");
  return prompts;
}

}  // namespace

std::string requested_model(const Json& request) {
  return Fields(request).text("model").value_or("");
}

CompletionRequest read_chat_request(const Json& request, const SamplingSettings& defaults) {
  CompletionRequest r = read_common(request, defaults, true);
  const Fields fields(request);
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMostTop);
  if (top.value_or(0) > 0 && !logprobs) fields.refuse("top_logprobs", "needs logprobs: true");
  if (logprobs) r.top = top.value_or(0);
  r.messages = checked_messages(request);
  r.tools = checked_tools(request);
  r.variables = checked_variables(request);
  return r;
}

CompletionRequest read_text_request(const Json& request, const SamplingSettings& defaults) {
  CompletionRequest r = read_common(request, defaults, false);
  const Fields fields(request);
  r.top = fields.integer("logprobs", 0, kMostTop);
  r.echo = fields.boolean("echo").value_or(false);
  if (!r.max_tokens) r.max_tokens = kTextTokens;
  const auto best_of = fields.integer("best_of", 1, kMostAnswers);
  if (best_of && *best_of != r.choices) fields.refuse("best_of", "is not implemented beyond n");
  r.prompts = read_prompts(fields);
  if (std::ssize(r.prompts) * r.choices > kMostAnswers)
    fields.refuse("n", "prompts times choices may be 128 at most");
  return r;
}

CompletionRequest read_template_request(const Json& request) {
  CompletionRequest r;
  r.chat = true;
  r.messages = checked_messages(request);
  r.tools = checked_tools(request);
  r.variables = checked_variables(request);
  return r;
}

}  // namespace qwb::serve
