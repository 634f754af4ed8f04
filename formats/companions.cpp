#include "formats/companions.h"

#include "formats/hf/checkpoint.h"
#include "formats/safetensors/sharded_writer.h"
#include "lib/base/hash.h"

namespace qwb {
namespace {

constexpr int64_t kMaxCompanion = int64_t{256} << 20;

// Those inside the model's file, or null.
const std::map<std::string, std::string>* inner_companions(const OpenModel& open) {
  return open.source ? open.source->companions() : nullptr;
}

}  // namespace

bool has_inner_companions(const OpenModel& open) {
  return inner_companions(open) != nullptr;
}

std::map<std::string, std::string> companion_texts(const OpenModel& open) {
  std::map<std::string, std::string> texts;
  if (const auto* inner = inner_companions(open)) {
    texts = *inner;
    std::error_code ignored;
    if (!std::filesystem::is_directory(open.folder, ignored)) return texts;
    for (const std::string& name : legal_files(open.folder))
      texts.emplace(name, read_text(open.folder / name, kMaxCompanion));
    return texts;
  }
  for (const std::string& name : companion_files(open.folder))
    texts.emplace(name, read_text(open.folder / name, kMaxCompanion));
  return texts;
}

void write_companions(const OpenModel& open, const Path& folder) {
  for (const auto& [name, content] : companion_texts(open)) {
    std::filesystem::create_directories((folder / name).parent_path());
    write_file(folder / name, content);
  }
}

std::optional<std::string> companion_text(const OpenModel& open, const std::string& name) {
  if (const auto* inner = inner_companions(open)) {
    const auto it = inner->find(name);
    return it == inner->end() ? std::nullopt : std::optional(it->second);
  }
  std::error_code ignored;
  if (!std::filesystem::exists(open.folder / name, ignored)) return std::nullopt;
  return read_text(open.folder / name, kMaxCompanion);
}

std::string companion_hash(const OpenModel& open) {
  Hasher hasher;
  for (const auto& [name, text] : companion_texts(open))
    hasher.field(name).field(hash_hex(as_bytes(text)));
  return hasher.hex();
}

Tokenizer open_tokenizer(const OpenModel& open) {
  const auto* inner = inner_companions(open);
  if (inner == nullptr) return Tokenizer::load(open.folder);
  const auto json = inner->find("tokenizer.json");
  if (json == inner->end())
    throw Error(ErrorKind::not_found, "the file has no tokenizer", open.folder.string());
  return Tokenizer::from_json(json->second, inner->at("tokenizer_config.json"),
                              open.folder.string());
}

ChatTemplate open_chat_template(const OpenModel& open) {
  const auto* inner = inner_companions(open);
  if (inner == nullptr) return ChatTemplate::load(open.folder);
  const auto text = companion_text(open, "tokenizer_config.json");
  const Json config = text ? parse_json(*text, open.folder.string()) : Json();
  if (!json_has(config, "chat_template"))
    throw Error(ErrorKind::not_found, "the model has no chat template", open.folder.string(),
                "it may be a base model; use plain completion");
  return ChatTemplate::from_text(json_string(config, "chat_template", open.folder.string()), config,
                                 open.folder.string());
}

}  // namespace qwb
