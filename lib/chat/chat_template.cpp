#include "lib/chat/chat_template.h"

#include <algorithm>
#include <array>

#include "lib/base/error.h"
#include "lib/chat/jinja/parser.h"
#include "lib/chat/jinja/renderer.h"
#include "lib/tokenizer/special_tokens.h"
#include "lib/tokenizer/unicode.h"

namespace qwb {
namespace {

constexpr size_t kMaxTemplate = 4 << 20;
constexpr int64_t kMaxTemplateFile = int64_t{256} << 20;
constexpr std::array kSpecialTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

Json read_json(const Path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored)
             ? parse_json(read_text(path, kMaxTemplateFile), path.string())
             : Json();
}

// Named sources: of the template files, or of "chat_template" in the configuration (a text or a
// list of {name, template}).
std::map<std::string, std::string> find_sources(const Path& folder, const Json& config) {
  std::map<std::string, std::string> sources;
  std::error_code ignored;
  const std::string where = (folder / "tokenizer_config.json").string();
  if (json_has(config, "chat_template")) {
    const Json& found = config["chat_template"];
    if (found.is_array()) {
      for (const Json& item : found)
        sources[json_string(item, "name", where)] = json_string(item, "template", where);
    } else {
      sources["default"] = json_string(config, "chat_template", where);
    }
  }
  if (const Json old = read_json(folder / "chat_template.json"); json_has(old, "chat_template")) {
    sources["default"] =
        json_string(old, "chat_template", (folder / "chat_template.json").string());
  }
  if (const Path file = folder / "chat_template.jinja"; std::filesystem::exists(file, ignored))
    sources["default"] = read_text(file, kMaxTemplateFile);
  const Path more = folder / "additional_chat_templates";
  if (std::filesystem::is_directory(more, ignored)) {
    for (const auto& entry : std::filesystem::directory_iterator(more, ignored)) {
      if (entry.path().extension() == ".jinja")
        sources[entry.path().stem().string()] = read_text(entry.path(), kMaxTemplateFile);
    }
  }
  return sources;
}

// transformers fills reasoning_content from its older names, and thinking from any of them.
Json with_reasoning(const Json& message) {
  if (!message.is_object())
    throw Error(ErrorKind::usage, "each chat message must be an object with role and content");
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    if (!json_has(message, name)) continue;
    const Json& reasoning = message[name];
    Json result = Json::object();
    result["thinking"] = reasoning;
    for (const auto& [key, value] : message.items()) result[key] = value;
    result["reasoning_content"] = reasoning;
    return result;
  }
  return message;
}

bool is_parts(const Json& message) {
  return message.is_object() && message.contains("content") && message["content"].is_array();
}
bool has_parts(const Json& messages) {
  return std::any_of(messages.begin(), messages.end(), is_parts);
}
std::string joined_parts(const Json& parts) {
  std::string text;
  for (const Json& part : parts)
    text += part.is_string() ? part.get<std::string>()
                             : json_string(part, "text", "a part of a message");
  return text;
}

Error template_error(const jinja::Failure& failure, const std::string& where, int line) {
  const bool unsupported = dynamic_cast<const jinja::Unsupported*>(&failure) != nullptr;
  return {unsupported ? ErrorKind::unsupported : ErrorKind::failed, failure.what(),
          where + ": chat template, line " + std::to_string(line)};
}

}  // namespace

struct ChatTemplate::Parsed {
  jinja::Template made;
  Json specials = Json::object();
  std::string where;
};

ChatTemplate ChatTemplate::from_text(std::string_view source, const Json& config,
                                     const std::string& where) {
  if (source.size() > kMaxTemplate)
    throw Error(ErrorKind::failed, "a chat template of more than 4 MiB", where);
  auto parsed = std::make_shared<Parsed>();
  parsed->where = where;
  for (const char* key : kSpecialTokens) {
    if (!json_has(config, key)) continue;
    parsed->specials[key] = config[key].is_object() ? json_string(config[key], "content", where)
                                                    : json_string(config, key, where);
  }
  int line = 1;
  try {
    parsed->made = jinja::parse_template(tokenizer::sanitize(source), line);
  } catch (const jinja::Failure& failure) {
    throw template_error(failure, where, line);
  }
  ChatTemplate result;
  result.templates_["default"] = std::move(parsed);
  result.chosen_ = "default";
  return result;
}

bool ChatTemplate::exists(const Path& folder) {
  return !find_sources(folder, read_json(folder / "tokenizer_config.json")).empty();
}

ChatTemplate ChatTemplate::load(const Path& folder, const std::string& name) {
  const Json config = tokenizer::read_tokenizer_config(folder);
  const auto sources = find_sources(folder, config);
  if (sources.empty()) {
    throw Error(ErrorKind::not_found, "the model has no chat template", folder.string(),
                "it may be a base model; use plain completion");
  }
  ChatTemplate result;
  for (const auto& [key, source] : sources) {
    result.templates_[key] = from_text(source, config, folder.string()).templates_["default"];
  }
  result.chosen_ = name;
  const std::string wanted = name.empty() ? "default" : name;
  if (!result.templates_.contains(wanted)) {
    std::string names;
    for (const auto& [key, parsed] : result.templates_) names += (names.empty() ? "" : ", ") + key;
    throw Error(ErrorKind::not_found, "there is no chat template '" + wanted + "'", folder.string(),
                "there are: " + names);
  }
  return result;
}

// Whether the template writes the texts of a list of parts, found out by giving it one.
bool ChatTemplate::takes_parts(const Parsed& parsed, const Options& options) {
  constexpr const char* kMark = "qwb part";
  const Json part = {{"type", "text"}, {"text", kMark}};
  Options quiet = options;
  quiet.tools = nullptr;
  try {
    const std::string text =
        run(parsed, Json::array({{{"role", "user"}, {"content", Json::array({part})}}}), quiet);
    return text.find(kMark) != std::string::npos && text.find("'text':") == std::string::npos &&
           text.find("\"text\":") == std::string::npos;
  } catch (const Error&) {
    return false;
  }
}

std::string ChatTemplate::render(const Json& messages, const Options& options) const {
  if (!messages.is_array()) throw Error(ErrorKind::usage, "the messages must be a list");
  const bool tools = options.tools.is_array() && templates_.contains("tool_use");
  const Parsed& parsed = *templates_.at(!chosen_.empty() ? chosen_
                                        : tools          ? "tool_use"
                                                         : "default");
  if (!options.join_parts || !has_parts(messages) || takes_parts(parsed, options))
    return run(parsed, messages, options);
  Json joined = messages;
  for (Json& message : joined) {
    if (is_parts(message)) message["content"] = joined_parts(message["content"]);
  }
  return run(parsed, joined, options);
}

std::string ChatTemplate::run(const Parsed& parsed, const Json& messages, const Options& options) {
  Json variables = parsed.specials;
  Json chat = Json::array();
  for (const Json& message : messages) chat.push_back(with_reasoning(message));
  if (options.variables.is_object()) {
    for (const auto& [key, value] : options.variables.items()) variables[key] = value;
  }
  variables["messages"] = std::move(chat);
  variables["tools"] = options.tools;
  if (!variables.contains("documents")) variables["documents"] = nullptr;
  variables["add_generation_prompt"] = options.add_generation_prompt;
  jinja::Renderer renderer(options.now ? *options.now : std::time(nullptr));
  try {
    return renderer.render(parsed.made, jinja::Value::from_json(variables));
  } catch (const jinja::Refusal& refusal) {
    throw Error(ErrorKind::usage, refusal.what(),
                "chat template, line " + std::to_string(renderer.line()),
                "the template refuses these messages");
  } catch (const jinja::Failure& failure) {
    throw template_error(failure, parsed.where, renderer.line());
  }
}

}  // namespace qwb
