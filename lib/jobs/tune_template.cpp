#include "lib/jobs/tune_template.h"

#include <algorithm>

#include "formats/companions.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/text_file.h"
#include "lib/chat/chat_template.h"

namespace qwb {
namespace {

constexpr const char* kRolesAsText =
    "{%- if bos_token %}{{ bos_token }}{% endif %}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{ '### Assistant:\\n' + message['content'] + eos_token + '\\n' }}"
    "{%- elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{%- else %}{{ '### User:\\n' + message['content'] + '\\n\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '### Assistant:\\n' }}{%- endif %}";

// generation_config.json's, else config.json's, else the tokenizer's.
std::vector<int64_t> end_tokens_of(const OpenModel& open, const Tokenizer& tokenizer) {
  std::vector<int64_t> tokens;
  const auto add = [&](const Json& config) {
    if (!tokens.empty() || !json_has(config, "eos_token_id")) return;
    const Json& value = config.at("eos_token_id");
    for (const Json& id : value.is_array() ? value : Json::array({value})) {
      if (id.is_number_integer()) tokens.push_back(id.get<int64_t>());
    }
  };
  if (const auto text = companion_text(open, "generation_config.json"))
    add(parse_json(*text, (open.folder / "generation_config.json").string()));
  add(open.config);
  if (tokens.empty() && tokenizer.eos_id()) tokens.push_back(*tokenizer.eos_id());
  // A tokenizer's own end token ends a text too, and stands first where the model agrees.
  if (const auto own = tokenizer.eos_id()) {
    const auto at = std::find(tokens.begin(), tokens.end(), int64_t{*own});
    if (at != tokens.end()) std::rotate(tokens.begin(), at, at + 1);
  }
  return tokens;
}

RenderTurns render_by(ChatTemplate chat, const Tokenizer& tokenizer) {
  chat.name_tokens(tokenizer.named_tokens());
  return [chat = std::move(chat)](const Conversation& conversation, bool prompt) {
    ChatTemplate::Options options = chat_options(conversation);
    options.add_generation_prompt = prompt;
    options.now = 0;  // a template that tells the date must give the same tokens tomorrow
    return chat.render(conversation.messages, options);
  };
}

}  // namespace

TuneTemplate tune_template(const OpenModel& open, const std::optional<Path>& file,
                           const Tokenizer& tokenizer) {
  TuneTemplate made;
  made.end_tokens = end_tokens_of(open, tokenizer);
  const auto config_text = companion_text(open, "tokenizer_config.json");
  const Json config = config_text ? parse_json(*config_text, "tokenizer_config.json") : Json();
  try {
    if (file) {
      made.origin = file->string();
      made.text = read_text_file(*file);
      made.is_ours = true;
      made.render = render_by(ChatTemplate::from_text(made.text, config, made.origin), tokenizer);
    } else {
      made.origin = "the model's";
      made.render = render_by(open_chat_template(open), tokenizer);
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::not_found || file) throw;
    made.origin = "roles as text";
    made.text = kRolesAsText;
    made.is_ours = true;
    made.render = render_by(ChatTemplate::from_text(made.text, config, made.origin), tokenizer);
  }
  Hasher hasher;
  hasher.field(made.origin).field(made.text).field(tokenizer.content_hash());
  if (!made.is_ours) hasher.field(companion_hash(open));
  made.hash = hasher.hex();
  return made;
}

}  // namespace qwb
