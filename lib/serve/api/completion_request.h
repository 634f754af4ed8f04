// Requests for text, read from JSON: what /v1/chat/completions and /v1/completions are asked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/model/sampling.h"

namespace qwb::serve {

struct Prompt {
  std::string text;
  std::optional<std::vector<int32_t>> tokens;  // given as ids, not as a text
};

struct CompletionRequest {
  bool chat = false;
  SamplingSettings sampling;  // the request's, else the defaults; its seed if it gave one
  bool seeded = false;
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  int64_t choices = 1;
  bool stream = false, include_usage = false;
  bool ignore_eos = false, cache_prompt = true, return_tokens = false;
  std::optional<int64_t> top;  // logprobs are wanted, with so many alternatives

  // Of a chat.
  Json messages;   // [{role, content, ...}] as templates take them: roles and contents checked
  Json tools;      // a list, or null
  Json variables;  // chat_template_kwargs, or null

  // Of a text.
  std::vector<Prompt> prompts;
  bool echo = false;
};

inline constexpr int64_t kMostTop = 20;       // alternatives of a token
inline constexpr int64_t kMostAnswers = 128;  // prompts times choices
inline constexpr size_t kMostStops = 16;
inline constexpr size_t kLongestStop = 1000;  // bytes
inline constexpr int64_t kTextTokens = 16;    // /v1/completions without max_tokens, as OpenAI's

// `model`, or empty where the request names none.
std::string requested_model(const Json& request);
// Throw ApiError 400 naming the field: for values that make no sense, and for fields that would
// change the answer and are not implemented. Fields that nobody knows are ignored.
CompletionRequest read_chat_request(const Json& request, const SamplingSettings& defaults);
CompletionRequest read_text_request(const Json& request, const SamplingSettings& defaults);
// What /apply-template takes: messages, tools and chat_template_kwargs alone.
CompletionRequest read_template_request(const Json& request);

}  // namespace qwb::serve
