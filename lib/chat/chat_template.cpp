#include "lib/chat/chat_template.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/chat/jinja/parser.h"
#include "lib/chat/jinja/renderer.h"
#include "lib/tokenizer/special_tokens.h"
#include "lib/tokenizer/unicode.h"

namespace qwb {
namespace {

constexpr size_t kMaxTemplate = 4 << 20;
constexpr int64_t kMaxTemplateFile = int64_t{256} << 20;

Json read_json(const Path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored)
             ? parse_json(read_text(path, kMaxTemplateFile), path.string())
             : Json();
}

// By name; a single template is "default". Several are those that tools may choose among.
struct Sources {
  std::map<std::string, std::string> texts;
  bool several = false;
};

Sources config_sources(const Json& config, const std::string& where) {
  Sources sources;
  if (!json_has(config, "chat_template")) return sources;
  const Json& found = config["chat_template"];
  sources.several = found.is_array() || found.is_object();
  if (found.is_array()) {
    for (const Json& item : found)
      sources.texts[json_string(item, "name", where)] = json_string(item, "template", where);
  } else if (found.is_object()) {
    for (const auto& [name, text] : found.items())
      sources.texts[name] = json_string(found, name, where);
  } else {
    sources.texts["default"] = json_string(config, "chat_template", where);
  }
  return sources;
}

// Template files stand in place of "chat_template" in the configuration, whatever that holds.
// chat_template.json is a processor's: it counts where there is nothing else.
Sources find_sources(const Path& folder, const Json& config) {
  Sources sources;
  std::error_code ignored;
  if (const Path file = folder / "chat_template.jinja"; std::filesystem::exists(file, ignored))
    sources.texts["default"] = read_text(file, kMaxTemplateFile);
  const Path more = folder / "additional_chat_templates";
  if (std::filesystem::is_directory(more, ignored)) {
    for (const auto& entry : std::filesystem::directory_iterator(more, ignored)) {
      if (entry.path().extension() == ".jinja")
        sources.texts[entry.path().stem().string()] = read_text(entry.path(), kMaxTemplateFile);
    }
  }
  sources.several =
      !sources.texts.empty() && !(sources.texts.size() == 1 && sources.texts.contains("default"));
  if (!sources.texts.empty()) return sources;
  sources = config_sources(config, (folder / "tokenizer_config.json").string());
  if (!sources.texts.empty()) return sources;
  const Path old = folder / "chat_template.json";
  if (const Json processor = read_json(old); json_has(processor, "chat_template"))
    sources.texts["default"] = json_string(processor, "chat_template", old.string());
  return sources;
}

// Special tokens by name, which templates use: those that every model has, and a model's own, such
// as image_token.
Json special_variables(const Json& config, const std::string& where) {
  Json specials = Json::object(), own = Json::object();
  if (!config.is_object()) return specials;
  const auto put = [&](Json& into, const Json& from, const std::string& key) {
    if (const auto text = tokenizer::named_token(from, key, where)) into[key] = *text;
  };
  for (const char* key : tokenizer::kNamedTokens) put(specials, config, key);
  for (const auto& [key, value] : config.items()) {
    const bool token = value.is_string() || (value.is_object() && value.contains("content"));
    if (token && key.ends_with("_token") && !specials.contains(key)) put(own, config, key);
  }
  for (const char* list : {"extra_special_tokens", "model_specific_special_tokens"}) {
    if (!json_has(config, list) || !config[list].is_object()) continue;
    if (list == std::string_view("model_specific_special_tokens") && !own.empty()) continue;
    for (const auto& [key, value] : config[list].items()) {
      if (value.is_null()) throw Error(ErrorKind::failed, "'" + key + "' is no token", where);
      put(own, config[list], key);
    }
  }
  specials.update(own);
  return specials;
}

// Some clients write null for what a message has not: for a template it is absent, as in
// transformers.
Json without_nulls(const Json& message) {
  if (!message.is_object())
    throw Error(ErrorKind::usage, "each chat message must be an object with role and content");
  Json result = Json::object();
  for (const auto& [key, value] : message.items()) {
    if (!value.is_null()) result[key] = value;
  }
  return result;
}

// transformers fills reasoning_content from its older names, and thinking from any of them.
Json with_reasoning(const Json& message) {
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
  std::string text;
  Json specials = Json::object();
  std::string where;
};

ChatTemplate ChatTemplate::from_text(std::string_view source, const Json& config,
                                     const std::string& where) {
  if (source.size() > kMaxTemplate)
    throw Error(ErrorKind::failed, "a chat template of more than 4 MiB", where);
  auto parsed = std::make_shared<Parsed>();
  parsed->where = where;
  parsed->text = source;
  parsed->specials = special_variables(config, where);
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
  return !find_sources(folder, read_json(folder / "tokenizer_config.json")).texts.empty();
}

ChatTemplate ChatTemplate::load(const Path& folder, const std::string& name) {
  const Json config = tokenizer::read_tokenizer_config(folder);
  const Sources sources = find_sources(folder, config);
  if (sources.texts.empty()) {
    throw Error(ErrorKind::not_found, "the model has no chat template", folder.string(),
                "it may be a base model; use plain completion");
  }
  ChatTemplate result;
  for (const auto& [key, source] : sources.texts)
    result.templates_[key] = from_text(source, config, folder.string()).templates_["default"];
  result.several_ = sources.several;
  result.chosen_ = name;
  if (!name.empty()) result.choose(false);
  return result;
}

const ChatTemplate::Parsed& ChatTemplate::choose(bool tools) const {
  const bool use = several_ && tools && templates_.contains("tool_use");
  const std::string wanted = !chosen_.empty() ? chosen_ : use ? "tool_use" : "default";
  if (const auto found = templates_.find(wanted); found != templates_.end()) return *found->second;
  std::string names;
  for (const auto& [key, parsed] : templates_) names += (names.empty() ? "" : ", ") + key;
  throw Error(ErrorKind::not_found, "there is no chat template '" + wanted + "'",
              templates_.begin()->second->where, "there are: " + names);
}

bool ChatTemplate::mentions(std::string_view word) const {
  return std::ranges::any_of(templates_, [&](const auto& named) {
    return named.second->text.find(word) != std::string::npos;
  });
}

// Whether the template writes the texts of a list of parts, found out by giving it one.
bool ChatTemplate::takes_parts(const Parsed& parsed, const Options& options) const {
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
  const Parsed& parsed = choose(options.tools.is_array());
  if (!options.join_parts || !has_parts(messages) || takes_parts(parsed, options))
    return run(parsed, messages, options);
  Json joined = messages;
  for (Json& message : joined) {
    if (is_parts(message)) message["content"] = joined_parts(message["content"]);
  }
  return run(parsed, joined, options);
}

std::string ChatTemplate::run(const Parsed& parsed, const Json& messages,
                              const Options& options) const {
  Json variables = parsed.specials;
  for (const auto& [name, text] : named_) {
    if (!variables.contains(name)) variables[name] = text;
  }
  Json chat = Json::array();
  for (const Json& message : messages) chat.push_back(with_reasoning(without_nulls(message)));
  if (options.variables.is_object()) {
    for (const auto& [key, value] : options.variables.items()) variables[key] = value;
  }
  variables["messages"] = std::move(chat);
  variables["tools"] = options.tools;
  if (!variables.contains("documents")) variables["documents"] = nullptr;
  if (!variables.contains("add_generation_prompt"))
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
