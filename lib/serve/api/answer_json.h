// The JSON of answers: chat.completion, chat.completion.chunk, text_completion and their parts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/serve/api/completion_request.h"
#include "lib/serve/engine/job.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb::serve {

// What all parts of an answer share.
struct AnswerHead {
  std::string id;  // "chatcmpl-..."
  int64_t created = 0;
  std::string model;
};

// One line; invalid UTF-8 becomes U+FFFD.
std::string json_line(const Json& json);
// "data: JSON", as an event of a stream.
std::string event_of(const Json& json);
std::string event_line(const std::string& data);

// {"tokens": [...], ...} of a chat: {content: [{token, logprob, bytes, top_logprobs}]}. `bytes` are
// the token's own, even where they are no whole character; `token` is the text of them.
Json chat_logprobs(const Tokenizer& tokenizer, const std::vector<ScoredToken>& tokens);
// Of a text: {tokens, token_logprobs, top_logprobs, text_offset}. A token that is no text is
// written as OpenAI does, "bytes:\xe4\xbd". top_logprobs hold the token itself too. `offset`:
// characters before the text whose tokens these are.
Json text_logprobs(const Tokenizer& tokenizer, const std::vector<ScoredToken>& tokens,
                   int64_t offset);

const char* finish_name(Finish finish);
Json usage_json(const JobCounts& counts);
// How long it took (as llama-server names it), and the settings that the answer was drawn with.
Json timings_json(const JobCounts& counts);
Json settings_json(const SamplingSettings& settings);

// {"id", "object", "created", "model", "choices"}
Json answer_json(const AnswerHead& head, const char* object, Json choices);

}  // namespace qwb::serve
