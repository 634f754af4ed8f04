#include "lib/serve/api/chat_messages.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/fields.h"

namespace qwb::serve {
namespace {

constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

std::string place_of(size_t index) {
  return "messages[" + std::to_string(index) + "].";
}

void check_content(const Json& message, const std::string& role, const std::string& place) {
  const Fields fields(message, place);
  const Json* content = fields.find("content");
  if (content == nullptr) {
    if (role == "assistant" && fields.find("tool_calls") != nullptr) return;
    fields.refuse("content", "is missing");
  }
  if (content->is_string()) return;
  if (!content->is_array()) fields.refuse("content", "must be a string or a list of parts");
  for (const Json& part : *content) {
    const bool text = part.is_object() && part.value("type", Json()) == Json("text") &&
                      part.value("text", Json()).is_string();
    if (!text) fields.refuse("content", "only parts of type text are understood");
  }
}

// Templates write arguments as JSON themselves.
void read_tool_calls(Json& message, const std::string& place) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || calls->is_null()) return;
  const Fields fields(message, place);
  if (!calls->is_array()) fields.refuse("tool_calls", "must be a list");
  for (Json& call : *calls) {
    const bool function = call.is_object() && call.value("function", Json()).is_object() &&
                          call["function"].value("name", Json()).is_string();
    if (!function) fields.refuse("tool_calls", "must be calls of functions");
    Json& arguments = call["function"]["arguments"];
    if (!arguments.is_string()) continue;
    try {
      arguments = parse_json(arguments.get<std::string>(), "arguments");
    } catch (const Error& error) {
      fields.refuse("tool_calls", error.what());
    }
  }
}

}  // namespace

Json checked_messages(const Json& request) {
  const Fields fields(request);
  const Json* messages = fields.find("messages");
  if (messages == nullptr) fields.refuse("messages", "is missing");
  if (!messages->is_array() || messages->empty() || messages->size() > kMostMessages)
    fields.refuse("messages", "must be a list of 1 to 10000 messages");
  Json checked = *messages;
  for (size_t i = 0; i < checked.size(); ++i) {
    Json& message = checked[i];
    if (!message.is_object()) fields.refuse(place_of(i) + "role", "is missing");
    const Fields own(message, place_of(i));
    const std::string role = own.text("role").value_or("");
    if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end())
      own.refuse("role", "must be system, developer, user, assistant or tool");
    check_content(message, role, place_of(i));
    read_tool_calls(message, place_of(i));
    if (role == "developer") message["role"] = "system";
  }
  return checked;
}

Json checked_tools(const Json& request) {
  const Fields fields(request);
  const Json* tools = fields.find("tools");
  if (tools == nullptr) return nullptr;
  const bool objects =
      tools->is_array() &&
      std::all_of(tools->begin(), tools->end(), [](const Json& t) { return t.is_object(); });
  if (!objects) fields.refuse("tools", "must be a list of objects");
  const Json* choice = fields.find("tool_choice");
  return tools->empty() || (choice != nullptr && *choice == "none") ? Json(nullptr) : *tools;
}

Json checked_variables(const Json& request) {
  const Fields fields(request);
  const Json* variables = fields.find("chat_template_kwargs");
  if (variables == nullptr) return nullptr;
  if (!variables->is_object()) fields.refuse("chat_template_kwargs", "must be an object");
  for (const auto& [name, value] : variables->items()) {
    if (name == "messages" || name == "tools" || name == "add_generation_prompt")
      fields.refuse("chat_template_kwargs", name + " has a field of its own");
    if (value.is_structured())
      fields.refuse("chat_template_kwargs", name + " must be a plain value");
  }
  return *variables;
}

}  // namespace qwb::serve
