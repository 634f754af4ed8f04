// A row of a data set as a conversation, whatever its makers called the fields.
#pragma once

#include <string>

#include "lib/base/json.h"

namespace qwb {

struct Conversation {
  Json messages =
      Json::array();  // {role, content, ...}: all that a row says of a turn, in its order
  Json tools;         // a list, or null
  Json variables;     // chat_template_kwargs, or null
};

// Reads one of these shapes, the first that fits: `messages`, `conversations`, `conversation`,
// `dialog` or `dialogue` (turns with role and content or with from and value, or plain texts in
// turn), `prompt` and its answer, `instruction` (`input` or `context`) and its answer, `question`,
// `query` or `input` and its answer; a prompt and an answer may be turns themselves. The answer is
// `completion`, `chosen`, `response`, `output` or `answer`. With `system` or `system_prompt`,
// `tools` (a list, or one as text) and `chat_template_kwargs` where there are some. Throws `failed`
// for other rows, `unsupported` for pictures, sound and what else no text can stand for.
Conversation read_conversation(const Json& row, const std::string& where);

// The texts of the turns joined by blank lines, without roles and without calls of tools.
std::string conversation_text(const Conversation& conversation);
bool has_tool_calls(const Conversation& conversation);

}  // namespace qwb
