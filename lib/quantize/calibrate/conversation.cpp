#include "lib/quantize/calibrate/conversation.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "lib/base/error.h"
#include "lib/base/text_file.h"

namespace qwb {
namespace {

constexpr std::array kTurns = {"messages", "conversations", "conversation", "dialog", "dialogue"};
constexpr std::array kQuestions = {"prompt", "instruction", "question", "query", "input"};
constexpr std::array kAnswers = {"completion", "chosen", "response", "output", "answer"};
constexpr const char* kShapes =
    "text, page or content; messages or conversations (role and content, or from and value); "
    "prompt and completion; "
    "instruction, input "
    "and output; question and answer";

// The names that data sets give to the roles of their turns.
std::string usual_role(const std::string& role, const std::string& where) {
  static const std::map<std::string, std::string> names = {
      {"human", "user"},    {"gpt", "assistant"},   {"chatgpt", "assistant"},
      {"bot", "assistant"}, {"model", "assistant"}, {"observation", "tool"}};
  if (role == "function_call") {
    throw Error(ErrorKind::unsupported, "a turn from function_call is not supported", where,
                "give its calls as tool_calls of an assistant's turn");
  }
  const auto found = names.find(role);
  return found != names.end() ? found->second : role;
}

// Only text can be rendered: parts of other kinds would be lost.
void check_content(const Json& content, const std::string& where) {
  if (content.is_null() || content.is_string()) return;
  if (!content.is_array()) {
    if (content.is_object()) return;  // a tool's answer as it is
    throw Error(ErrorKind::failed, std::string("the content of a turn is a ") + content.type_name(),
                where, "it must be a text or a list of parts");
  }
  for (const Json& part : content) {
    if (part.is_string()) continue;
    const std::string type =
        part.is_object() ? json_string(part, "type", where, part.contains("text") ? "text" : "")
                         : "";
    if (type == "text" && part.contains("text") &&
        (part["text"].is_string() || part["text"].is_null()))
      continue;  // null reaches the template as None
    throw Error(ErrorKind::unsupported, "a part of type '" + type + "' in a turn is not supported",
                where, "only text can be used; leave rows with pictures or sound out");
  }
}

// What a turn may have alone.
constexpr auto kInsteadOfContent = std::to_array<const char*>(
    {"tool_calls", "function_call", "reasoning_content", "reasoning", "thinking"});

Json read_turn(const Json& turn, size_t number, const std::string& where) {
  if (turn.is_string())
    return {{"role", number % 2 == 0 ? "user" : "assistant"}, {"content", turn}};
  if (!turn.is_object())
    throw Error(ErrorKind::failed, "a turn is neither an object nor a text", where);
  const bool by_role = json_has(turn, "role");
  if (!by_role && !json_has(turn, "from"))
    throw Error(ErrorKind::failed, "a turn has neither role nor from", where,
                "turns have role and content, or from and value");
  const bool by_content = turn.contains("content") || !turn.contains("value");
  Json message = Json::object();
  for (const auto& [key, value] : turn.items()) {
    if (key == (by_role ? "role" : "from")) {
      const std::string role = json_string(turn, key, where);
      message["role"] = by_role && by_content ? role : usual_role(role, where);
    } else if (!by_content && key == "value") {
      message["content"] = value;
    } else {
      message[key] = value;
    }
  }
  if (message.contains("content")) {
    check_content(message["content"], where);
  } else if (std::ranges::none_of(kInsteadOfContent,
                                  [&](const char* key) { return json_has(message, key); })) {
    throw Error(ErrorKind::failed, "a turn has no content", where,
                "turns have role and content, or from and value");
  }
  return message;
}

void add_turns(Json& messages, const Json& list, const std::string& where) {
  if (!list.is_array()) throw Error(ErrorKind::failed, "the conversation is not a list", where);
  for (const Json& turn : list) messages.push_back(read_turn(turn, messages.size(), where));
}

// A question or an answer: a text, or turns.
void add_side(Json& messages, const Json& side, const char* role, const std::string& where) {
  if (side.is_array()) return add_turns(messages, side, where);
  if (!side.is_string())
    throw Error(ErrorKind::failed,
                std::string("the ") + role + "'s side is neither a text nor a list of turns",
                where);
  messages.push_back({{"role", role}, {"content", side}});
}

template <size_t n>
const char* first_field(const Json& row, const std::array<const char*, n>& names) {
  for (const char* name : names) {
    if (json_has(row, name)) return name;
  }
  return nullptr;
}

// Earlier questions and their answers, in pairs, as rows for LLaMA-Factory have them.
void add_history(Json& messages, const Json& row, const std::string& where) {
  if (!json_has(row, "history")) return;
  const Json& history = row["history"];
  if (!history.is_array()) throw Error(ErrorKind::failed, "'history' is not a list", where);
  for (const Json& pair : history) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      throw Error(ErrorKind::failed, "'history' is no list of questions and answers", where);
    messages.push_back({{"role", "user"}, {"content", pair[0]}});
    messages.push_back({{"role", "assistant"}, {"content", pair[1]}});
  }
}

// What no text can stand for, beside the turns.
void refuse_other_media(const Json& row, const std::string& where) {
  for (const char* name : {"images", "image", "videos", "video", "audios", "audio"}) {
    if (!json_has(row, name) || (row[name].is_structured() && row[name].empty()) ||
        (row[name].is_string() && row[name].get_ref<const std::string&>().empty()))
      continue;
    throw Error(ErrorKind::unsupported, "the row has " + std::string(name), where,
                "only text can be used; leave rows with pictures or sound out");
  }
}

void add_question_and_answer(Json& messages, const Json& row, const std::string& where) {
  const char* question = first_field(row, kQuestions);
  const char* answer = first_field(row, kAnswers);
  if (question == nullptr || answer == nullptr) {
    const std::string has = row_fields(row);
    throw Error(ErrorKind::failed,
                "the row has no text that is known here" + (has.empty() ? "" : ": it has " + has),
                where, std::string("these would do: ") + kShapes);
  }
  const bool chosen_turns = std::string_view(answer) == "chosen" && row[answer].is_array() &&
                            !row[answer].empty() && row[answer][0].is_object() &&
                            json_string(row[answer][0], "role", where, "") != "assistant";
  if (chosen_turns) return add_turns(messages, row[answer], where);  // the whole conversation
  add_history(messages, row, where);
  Json side = row[question];
  if (side.is_string()) {
    for (const char* more : {"input", "context"}) {
      if (std::string_view(question) == more) continue;
      const std::string text = json_string(row, more, where, "");
      if (!text.empty()) side = side.get<std::string>() + "\n\n" + text;
    }
  }
  add_side(messages, side, "user", where);
  add_side(messages, row[answer], "assistant", where);
}

// Data sets also store the list as text.
Json read_tools(const Json& row, const std::string& where) {
  if (!json_has(row, "tools")) {
    if (json_has(row, "functions") && row["functions"].is_array() && !row["functions"].empty())
      throw Error(ErrorKind::unsupported, "the row has 'functions', the old form of 'tools'", where,
                  "write them as tools: {\"type\": \"function\", \"function\": ...}");
    return nullptr;
  }
  Json tools = row["tools"];
  if (tools.is_string()) {
    if (tools.get_ref<const std::string&>().find_first_not_of(" \t\r\n") == std::string::npos)
      return nullptr;
    tools = parse_json(tools.get<std::string>(), where + ": tools");
  }
  if (tools.is_null()) return nullptr;
  if (!tools.is_array()) throw Error(ErrorKind::failed, "'tools' is not a list", where);
  for (const Json& tool : tools) {
    if (!tool.is_object()) throw Error(ErrorKind::failed, "a tool is not an object", where);
  }
  return tools;
}

std::string text_of(const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  if (content.is_array()) {
    for (const Json& part : content) {
      const Json& words = part.is_string() ? part : part.at("text");
      if (words.is_string()) text += words.get<std::string>();
    }
  } else if (content.is_object()) {
    text = content.dump();
  }
  return text;
}

}  // namespace

namespace {

constexpr std::string_view kLongInteger = "\x01long integer ";

bool holds_long_integer(const Json& value, std::string& found) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (!text.starts_with(kLongInteger)) return false;
    found = text.substr(kLongInteger.size());
    return true;
  }
  return value.is_structured() && std::any_of(value.begin(), value.end(), [&](const Json& part) {
           return holds_long_integer(part, found);
         });
}

// The text with texts in place of integers beyond 64 bits; empty if there are none.
std::string mark_long_integers(std::string_view json) {
  std::string marked;
  size_t kept = 0;
  bool inside_string = false;
  for (size_t at = 0; at < json.size(); ++at) {
    if (inside_string && json[at] == '\\') {
      ++at;
    } else if (json[at] == '"') {
      inside_string = !inside_string;
    } else if (!inside_string && (json[at] == '-' || (json[at] >= '0' && json[at] <= '9'))) {
      const size_t end = std::min(json.find_first_not_of("0123456789.eE+-", at), json.size());
      const auto number = json.substr(at, end - at), digits = number.substr(number[0] == '-');
      uint64_t value = 0;
      if (number.find_first_of(".eE") == std::string_view::npos &&
          std::from_chars(digits.data(), digits.data() + digits.size(), value).ec ==
              std::errc::result_out_of_range) {
        marked.append(json.substr(kept, at - kept)).append("\"\\u0001");
        marked.append(kLongInteger.substr(1)).append(number).append("\"");
        kept = end;
      }
      at = end - 1;
    }
  }
  return kept == 0 ? marked : marked.append(json.substr(kept));
}

// Arguments of apply_chat_template, which are no variables of a template.
void check_variables(const Json& variables, const std::string& where) {
  for (const char* key :
       {"messages", "conversation", "tools", "chat_template", "continue_final_message", "tokenize",
        "padding", "truncation", "max_length", "return_tensors", "return_dict",
        "return_assistant_tokens_mask", "tokenizer_kwargs", "sanitize_control_tokens"}) {
    if (json_has(variables, key) && variables[key] != false)
      throw Error(ErrorKind::unsupported,
                  "'" + std::string(key) + "' in chat_template_kwargs is not supported", where,
                  "it is no variable of a template; leave it out");
  }
}

}  // namespace

// Python keeps integers of any size, JSON readers of C++ make floats of long ones: refused before a
// template shows one. (A number with a fraction or an exponent is a float to both.) Fields that the
// conversation does not take may hold them.
void refuse_long_integers(std::string_view json, const std::string& where) {
  const std::string marked = mark_long_integers(json);
  if (marked.empty()) return;
  Json row = parse_json(marked, where);
  if (row.is_array()) row = Json{{"messages", std::move(row)}};
  const Conversation conversation = read_conversation(row, where);
  std::string found;
  if (holds_long_integer(conversation.messages, found) ||
      holds_long_integer(conversation.tools, found) ||
      holds_long_integer(conversation.variables, found))
    throw Error(ErrorKind::unsupported, "the integer " + found + " has more than 64 bits", where);
}

Conversation parse_conversation(std::string_view json, const std::string& where) {
  Json row = parse_json(json, where);
  refuse_long_integers(json, where);
  if (row.is_array()) row = Json{{"messages", std::move(row)}};
  return read_conversation(row, where);
}

ChatTemplate::Options chat_options(const Conversation& conversation) {
  ChatTemplate::Options options;
  options.tools = conversation.tools;
  options.variables = conversation.variables;
  options.join_parts = true;
  return options;
}

std::string render_conversation(const Conversation& conversation, const RenderChat& chat,
                                const std::string& where) {
  try {
    return chat(conversation);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    throw Error(error.kind(), error.what(), where);
  }
}

bool has_turns(const Json& row) {
  return first_field(row, kTurns) != nullptr ||
         (first_field(row, kQuestions) != nullptr && first_field(row, kAnswers) != nullptr);
}

Conversation read_conversation(const Json& row, const std::string& where) {
  refuse_other_media(row, where);
  Conversation conversation;
  const char* turns = first_field(row, kTurns);
  if (turns != nullptr) {
    add_turns(conversation.messages, row[turns], where);
  } else {
    add_question_and_answer(conversation.messages, row, where);
  }
  for (const char* name : {"system", "system_prompt"}) {
    if (!json_has(row, name) || !row[name].is_string() ||
        row[name].get_ref<const std::string&>().empty())
      continue;
    if (conversation.messages.empty() || conversation.messages[0]["role"] != "system")
      conversation.messages.insert(conversation.messages.begin(),
                                   Json{{"role", "system"}, {"content", row[name]}});
    break;
  }
  conversation.tools = read_tools(row, where);
  if (json_has(row, "chat_template_kwargs")) {
    if (!row["chat_template_kwargs"].is_object())
      throw Error(ErrorKind::failed, "'chat_template_kwargs' is not an object", where);
    conversation.variables = row["chat_template_kwargs"];
    check_variables(conversation.variables, where);
  }
  if (json_has(row, "documents") && row["documents"].is_array()) {  // apply_chat_template's own
    if (conversation.variables.is_null()) conversation.variables = Json::object();
    if (!conversation.variables.contains("documents"))
      conversation.variables["documents"] = row["documents"];
  }
  return conversation;
}

std::string conversation_text(const Conversation& conversation) {
  std::string text;
  for (const Json& message : conversation.messages) {
    const std::string turn = message.contains("content") ? text_of(message["content"]) : "";
    if (!turn.empty()) text += (text.empty() ? "" : "\n\n") + turn;
  }
  return text;
}

bool has_tool_calls(const Conversation& conversation) {
  for (const Json& message : conversation.messages) {
    if (json_has(message, "tool_calls") || json_has(message, "function_call")) return true;
  }
  return false;
}

}  // namespace qwb
