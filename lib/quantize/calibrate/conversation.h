// A row of a data set as a conversation, whatever its makers called the fields.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "lib/base/json.h"
#include "lib/chat/chat_template.h"

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
// `query` or `input` and its answer (`history` before it, `context` behind it); a prompt and an
// answer may be turns themselves. The answer is `completion`, `chosen`, `response`, `output` or
// `answer`. With `system` or `system_prompt`, `tools` (a list, or one as text), `documents` and
// `chat_template_kwargs` where there are some. Throws `failed` for other rows, `unsupported` for
// pictures, sound and what else no text can stand for.
Conversation read_conversation(const Json& row, const std::string& where);

// The same from its JSON. A list alone is `messages`. Throws besides unsupported for integers of
// more than 64 bits, which a template would show otherwise than Python does.
Conversation parse_conversation(std::string_view json, const std::string& where);
void refuse_long_integers(std::string_view json, const std::string& where);

// What a template gets besides the messages: tools, variables, and lists of texts joined where it
// does not take them apart.
ChatTemplate::Options chat_options(const Conversation& conversation);
// Turns one conversation into text: a chat template.
using RenderChat = std::function<std::string(const Conversation&)>;
// What the template says of a conversation; its errors tell the place.
std::string render_conversation(const Conversation& conversation, const RenderChat& chat,
                                const std::string& where);

// Whether a row has the fields of one of these shapes.
bool has_turns(const Json& row);

// The texts of the turns joined by blank lines, without roles and without calls of tools.
std::string conversation_text(const Conversation& conversation);
bool has_tool_calls(const Conversation& conversation);

}  // namespace qwb
