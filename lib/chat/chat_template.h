// Chat templates: messages to the text that a model was trained on, by the Jinja template that
// comes with its tokenizer. Renders what transformers' apply_chat_template renders, or refuses by
// name what is not supported here: never another text (tests/golden/check_templates.py compares
// with jinja2). A template is foreign code: its work, recursion and output are bounded (an error,
// never a hang).
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

// Copies share the parsed template. All const methods may be called by many threads at once.
class ChatTemplate {
 public:
  // From chat_template.jinja and additional_chat_templates in a folder, else "chat_template" of
  // tokenizer_config.json, else of chat_template.json. Where there are several, `name` chooses;
  // "default" unless given, and "tool_use" is taken instead if there are tools. Throws not_found if
  // there is none.
  static ChatTemplate load(const Path& folder, const std::string& name = "");
  static bool exists(const Path& folder);
  // `config`: the parsed tokenizer_config.json or null, from which come bos_token and the other
  // special tokens, a model's own (image_token) among them.
  static ChatTemplate from_text(std::string_view source, const Json& config,
                                const std::string& where);

  // Tokens that templates use by name ("bos_token") where the configuration names none: those of
  // the tokenizer's class.
  void name_tokens(const std::map<std::string, std::string>& names) { named_ = names; }

  struct Options {
    bool add_generation_prompt = true;
    Json tools;                      // a list of JSON schemas, or null
    Json variables;                  // more variables of the template: {"enable_thinking": false}
    std::optional<std::time_t> now;  // what strftime_now tells; the present if empty
    // Contents that are lists of texts become one text where the template does not take lists apart
    // itself.
    bool join_parts = false;
  };
  // `messages`: [{"role": "user", "content": "..."}, ...]; keys that are null count as absent.
  // Throws not_found if there are several templates and none of them is the default, usage with the
  // template's own message if it refuses the messages, `failed` with the template's line if it
  // cannot be rendered.
  std::string render(const Json& messages, const Options& options) const;
  // Whether the text of any of its templates holds this word.
  bool mentions(std::string_view word) const;

 private:
  struct Parsed;
  std::string run(const Parsed& parsed, const Json& messages, const Options& options) const;
  bool takes_parts(const Parsed& parsed, const Options& options) const;
  // Throws not_found.
  const Parsed& choose(bool tools) const;
  std::map<std::string, std::shared_ptr<const Parsed>> templates_;  // by name; not empty
  bool several_ = false;                                            // tools choose among them
  std::string chosen_;  // empty: "default" or "tool_use"
  std::map<std::string, std::string> named_;
};

}  // namespace qwb
