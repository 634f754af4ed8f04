// The messages of a chat, checked and brought into the form that chat templates take.
#pragma once

#include "lib/base/json.h"

namespace qwb::serve {

inline constexpr size_t kMostMessages = 10'000;

// From the request's `messages`. The role "developer" becomes "system"; arguments of tool calls,
// which OpenAI sends as text, become JSON. Throws ApiError 400 naming the place for what is no
// message, for pictures and sound, and for roles that nobody knows.
Json checked_messages(const Json& request);
// `tools`, a list of objects, or null. Throws ApiError 400.
Json checked_tools(const Json& request);
// `chat_template_kwargs`, an object of plain values, or null. Throws ApiError 400: a template's own
// variables (messages, tools, add_generation_prompt) cannot be replaced.
Json checked_variables(const Json& request);

}  // namespace qwb::serve
