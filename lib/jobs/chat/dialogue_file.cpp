// Settings and conversations as JSON.
#include <algorithm>
#include <array>
#include <string_view>

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/base/text_file.h"
#include "lib/chat/stop_strings.h"
#include "lib/jobs/chat/dialogue.h"

namespace qwb {
namespace {

constexpr int64_t kMostChatTokens = int64_t{1} << 40;
constexpr int64_t kLargestChatFile = int64_t{256} << 20;

// Throws unsupported for a field that is in none of the lists.
void check_fields(const Json& object, const std::vector<std::string>& known,
                  const std::string& where) {
  for (const auto& [name, value] : object.items()) {
    if (std::ranges::find(known, name) != known.end()) continue;
    const auto near = nearest_name(name, known);
    throw Error(ErrorKind::unsupported, "the field '" + name + "' is not known", where,
                near ? "did you mean '" + *near + "'?" : "leave it out");
  }
}

void read_stops(const Json& json, ChatSettings& settings, const std::string& where) {
  if (!json_has(json, "stop")) return;
  const Json& stops = json["stop"];
  settings.stop.clear();
  for (const Json& stop : stops.is_array() ? stops : Json::array({stops})) {
    if (!stop.is_string()) throw Error(ErrorKind::usage, "stop must be a text or a list", where);
    settings.stop.push_back(stop.get<std::string>());
  }
}

}  // namespace

void check_chat_settings(const ChatSettings& settings) {
  check_sampling(settings.sampling);
  if (settings.max_tokens < 0 || settings.max_tokens > kMostChatTokens)
    throw Error(ErrorKind::usage, "max-tokens must be 1 to 2^40, or 0 for what the context holds");
  if (settings.context < 0 || settings.context > kMostChatTokens)
    throw Error(ErrorKind::usage, "context must be 1 to 2^40 tokens, or 0 for the model's limit");
  const StopStrings checked(settings.stop);
}

Json chat_settings_json(const ChatSettings& settings) {
  const SamplingSettings& s = settings.sampling;
  return {{"temperature", s.temperature},
          {"top_k", s.top_k},
          {"top_p", s.top_p},
          {"min_p", s.min_p},
          {"repetition_penalty", s.repetition_penalty},
          {"seed", s.seed},
          {"max_tokens", settings.max_tokens},
          {"context", settings.context},
          {"stop", settings.stop},
          {"ignore_eos", settings.ignore_eos}};
}

void read_chat_settings(const Json& json, ChatSettings& settings, const std::string& where) {
  if (!json.is_object()) throw Error(ErrorKind::usage, "the settings must be an object", where);
  std::vector<std::string> known;
  const Json all = chat_settings_json(settings);
  for (const auto& [name, value] : all.items()) known.push_back(name);
  check_fields(json, known, where);
  SamplingSettings& s = settings.sampling;
  s.temperature = json_number(json, "temperature", where, s.temperature);
  s.top_k = json_int(json, "top_k", where, s.top_k);
  s.top_p = json_number(json, "top_p", where, s.top_p);
  s.min_p = json_number(json, "min_p", where, s.min_p);
  s.repetition_penalty = json_number(json, "repetition_penalty", where, s.repetition_penalty);
  if (json_has(json, "seed")) {
    if (!json["seed"].is_number_unsigned())
      throw Error(ErrorKind::usage, "the seed must be a whole number from 0", where);
    s.seed = json["seed"].get<uint64_t>();
  }
  settings.max_tokens = json_int(json, "max_tokens", where, settings.max_tokens);
  settings.context = json_int(json, "context", where, settings.context);
  settings.ignore_eos = json_bool(json, "ignore_eos", where, settings.ignore_eos);
  read_stops(json, settings, where);
  try {
    check_chat_settings(settings);
  } catch (const Error& error) {
    throw Error(error.kind(), error.what(), where);
  }
}

namespace {

const std::vector<std::string>& part_fields() {
  static const std::vector<std::string> fields = {"messages", "model", "tools",
                                                  "chat_template_kwargs", "cut"};
  return fields;
}

Json part_json(const SavedChat::Part& part) {
  const Conversation& conversation = part.dialogue.conversation();
  Json json = {{"messages", conversation.messages}};
  if (!part.model.empty()) json["model"] = part.model;
  if (!conversation.tools.is_null()) json["tools"] = conversation.tools;
  if (!conversation.variables.is_null()) json["chat_template_kwargs"] = conversation.variables;
  if (!part.dialogue.cut().empty()) json["cut"] = part.dialogue.cut();
  return json;
}

SavedChat::Part parse_part(const Json& json, const std::string& where) {
  if (!json_has(json, "messages"))
    throw Error(ErrorKind::failed, "there are no messages", where,
                "a conversation is {\"messages\": [{\"role\": \"user\", \"content\": ...}, ...]}");
  SavedChat::Part part;
  part.dialogue = Dialogue(read_conversation(json, where));
  part.model = json_string(json, "model", where, "");
  if (json_has(json, "cut")) part.dialogue.set_cut(json["cut"], where);
  return part;
}

}  // namespace

std::string chat_text(const SavedChat& chat) {
  Json json = part_json(chat.parts.at(0));
  json["settings"] = chat.settings;
  for (size_t i = 1; i < chat.parts.size(); ++i) json["others"].push_back(part_json(chat.parts[i]));
  return json_text(json);
}

SavedChat parse_chat(const std::string& text, const std::string& where) {
  Json json = parse_json(text, where);
  refuse_long_integers(text, where);
  if (json.is_array()) json = Json{{"messages", std::move(json)}};
  if (!json.is_object()) throw Error(ErrorKind::failed, "this is no conversation", where);
  std::vector<std::string> known = part_fields();
  known.insert(known.end(), {"settings", "others"});
  check_fields(json, known, where);
  SavedChat chat;
  chat.parts.push_back(parse_part(json, where));
  if (json_has(json, "settings")) {
    chat.settings = json["settings"];
    ChatSettings checked;
    read_chat_settings(chat.settings, checked, where + ": settings");
  }
  if (!json_has(json, "others")) return chat;
  if (!json["others"].is_array()) throw Error(ErrorKind::failed, "'others' is not a list", where);
  for (const Json& other : json["others"]) {
    if (!other.is_object()) throw Error(ErrorKind::failed, "'others' holds no objects", where);
    check_fields(other, part_fields(), where + ": others");
    chat.parts.push_back(parse_part(other, where + ": others"));
  }
  return chat;
}

bool is_chat_file(const Path& file) {
  try {
    parse_chat(read_text_file(file, kLargestChatFile), file.string());
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace qwb
