#include "formats/loaded_model.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "formats/companions.h"
#include "lib/base/error.h"

namespace qwb {
namespace {

using LoadClock = std::chrono::steady_clock;

LoadedModel load_opened(OpenModel open, LoadOptions options, const Context& context,
                        LoadClock::time_point begin) {
  LoadedModel loaded;
  loaded.open = std::move(open);
  if (options.executor == nullptr)
    options.executor = make_executor(ExecutorKind::fast, context.threads);
  auto model = Model::load(loaded.open.source, loaded.open.config, loaded.open.config_name(),
                           std::move(options.executor), options.use);
  if (options.attach) loaded.additions = options.attach(loaded.open, *model);
  loaded.model = std::move(model);
  loaded.load_seconds = std::chrono::duration<double>(LoadClock::now() - begin).count();
  if (options.tokenizer) {
    loaded.tokenizer = open_tokenizer(loaded.open);
    const std::string note = loaded.tokenizer->note();
    if (!note.empty()) context.progress->note(note);
  }
  loaded.hold = std::move(options.hold);
  return loaded;
}

}  // namespace

LoadedModel load_model(const Path& folder, LoadOptions options, const Context& context) {
  const auto begin = LoadClock::now();
  return load_opened(open_model(folder, context), std::move(options), context, begin);
}

LoadedModel load_model(OpenModel open, LoadOptions options, const Context& context) {
  return load_opened(std::move(open), std::move(options), context, LoadClock::now());
}

ChatTemplate LoadedModel::chat_template() const {
  ChatTemplate chat = open_chat_template(open);
  if (tokenizer) chat.name_tokens(tokenizer->named_tokens());
  return chat;
}

std::vector<int64_t> LoadedModel::end_tokens() const {
  const auto text = companion_text(open, "generation_config.json");
  if (!text) return model->config().eos;
  const Path file = open.folder / "generation_config.json";
  std::vector<int64_t> ids;
  const Json json = parse_json(*text, file.string());
  if (!json_has(json, "eos_token_id")) return ids;
  const Json& value = json.at("eos_token_id");
  for (const Json& id : value.is_array() ? value : Json::array({value})) {
    if (!id.is_number_integer())
      throw Error(ErrorKind::failed, "eos_token_id is not a token", file.string());
    if (std::find(ids.begin(), ids.end(), id.get<int64_t>()) == ids.end())
      ids.push_back(id.get<int64_t>());
  }
  return ids;
}

}  // namespace qwb
