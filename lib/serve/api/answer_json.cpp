#include "lib/serve/api/answer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "lib/base/utf8.h"
#include "lib/tokenizer/token_bytes.h"

namespace qwb::serve {
namespace {

// JSON has no infinity; OpenAI writes this for what cannot happen.
constexpr double kLeastLogprob = -9999;

double finite(double logprob) {
  return std::isfinite(logprob) ? logprob : kLeastLogprob;
}

bool is_text(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    int bad = 0;
    const int size = utf8_sequence(bytes, at, bad);
    if (size <= 0) return false;
    at += static_cast<size_t>(size);
  }
  return true;
}

Json bytes_json(const std::string& bytes) {
  Json list = Json::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

Json chat_token(const Tokenizer& tokenizer, int32_t token, double logprob) {
  const std::string bytes = token_bytes(tokenizer, token);
  return {{"token", bytes}, {"logprob", finite(logprob)}, {"bytes", bytes_json(bytes)}};
}

std::string text_token(const Tokenizer& tokenizer, int32_t token) {
  const std::string bytes = token_bytes(tokenizer, token);
  if (is_text(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

double rate(int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

}  // namespace

std::string json_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string event_line(const std::string& data) {
  return "data: " + data + "\n\n";
}

std::string event_of(const Json& json) {
  return event_line(json_line(json));
}

Json chat_logprobs(const Tokenizer& tokenizer, const std::vector<ScoredToken>& tokens) {
  Json content = Json::array();
  for (const ScoredToken& scored : tokens) {
    Json entry = chat_token(tokenizer, scored.token, scored.logprob.value_or(0));
    entry["top_logprobs"] = Json::array();
    for (const TokenChance& chance : scored.top)
      entry["top_logprobs"].push_back(chat_token(tokenizer, chance.token, chance.logprob));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json text_logprobs(const Tokenizer& tokenizer, const std::vector<ScoredToken>& tokens,
                   int64_t offset) {
  Json json = {{"tokens", Json::array()},
               {"token_logprobs", Json::array()},
               {"top_logprobs", Json::array()},
               {"text_offset", Json::array()}};
  for (const ScoredToken& scored : tokens) {
    const std::string name = text_token(tokenizer, scored.token);
    json["tokens"].push_back(name);
    json["text_offset"].push_back(offset + scored.offset);
    if (!scored.logprob) {
      json["token_logprobs"].push_back(nullptr);
      json["top_logprobs"].push_back(nullptr);
      continue;
    }
    json["token_logprobs"].push_back(finite(*scored.logprob));
    Json top = Json::object();
    // Of tokens that are spelled the same the likeliest counts, which comes first.
    for (const TokenChance& chance : scored.top) {
      const std::string other = text_token(tokenizer, chance.token);
      if (!top.contains(other)) top[other] = finite(chance.logprob);
    }
    if (!top.contains(name)) top[name] = finite(*scored.logprob);
    json["top_logprobs"].push_back(std::move(top));
  }
  return json;
}

const char* finish_name(Finish finish) {
  return finish == Finish::stop ? "stop" : "length";
}

Json usage_json(const JobCounts& counts) {
  return {{"prompt_tokens", counts.prompt_tokens},
          {"completion_tokens", counts.generated_tokens},
          {"total_tokens", counts.prompt_tokens + counts.generated_tokens},
          {"prompt_tokens_details", {{"cached_tokens", counts.cached_tokens}}}};
}

Json timings_json(const JobCounts& counts) {
  const int64_t read = counts.prompt_tokens - counts.cached_tokens;
  const int64_t decoded = std::max<int64_t>(counts.generated_tokens - 1, 0);
  return {{"queue_ms", 1000 * counts.queue_seconds},
          {"cache_n", counts.cached_tokens},
          {"prompt_n", read},
          {"prompt_ms", 1000 * counts.prefill_seconds},
          {"prompt_per_second", rate(read, counts.prefill_seconds)},
          {"predicted_n", counts.generated_tokens},
          {"predicted_ms", 1000 * counts.decode_seconds},
          {"predicted_per_second", rate(decoded, counts.decode_seconds)}};
}

Json settings_json(const SamplingSettings& s) {
  return {{"temperature", s.temperature},
          {"top_k", s.top_k},
          {"top_p", s.top_p},
          {"min_p", s.min_p},
          {"repetition_penalty", s.repetition_penalty},
          {"frequency_penalty", s.frequency_penalty},
          {"presence_penalty", s.presence_penalty},
          {"seed", s.seed}};
}

Json answer_json(const AnswerHead& head, const char* object, Json choices) {
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"choices", std::move(choices)}};
}

}  // namespace qwb::serve
