// Reading tokenizer.json and tokenizer_config.json.
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/tokenizer/tokenizer_file.h"
#include "lib/tokenizer/tokenizer_impl.h"

namespace qwb {
namespace {

using tokenizer::AddedToken;
using tokenizer::TokenizerFile;

constexpr int64_t kMaxFile = int64_t{256} << 20;

// "<s>", or {"content": "<s>", ...}, or null.
std::optional<std::string> named_token(const Json& config, const std::string& key, const std::string& where) {
  if (!json_has(config, key)) return std::nullopt;
  if (config[key].is_object()) return json_string(config[key], "content", where);
  return json_string(config, key, where);
}

AddedToken read_added_token(const Json& json, const std::string& where) {
  AddedToken token;
  const int64_t id = json_int(json, "id", where);
  token.content = json_string(json, "content", where);
  if (id < 0 || id > tokenizer::kMaxId) {
    throw Error(ErrorKind::failed, "the added token '" + token.content + "' has the id " + std::to_string(id),
                where, "the file is damaged");
  }
  token.id = static_cast<int32_t>(id);
  token.special = json_bool(json, "special", where, false);
  token.single_word = json_bool(json, "single_word", where, false);
  token.lstrip = json_bool(json, "lstrip", where, false);
  token.rstrip = json_bool(json, "rstrip", where, false);
  token.normalized = json_bool(json, "normalized", where, !token.special);
  return token;
}

void name_id(Tokenizer::Impl& impl, int32_t id, const std::string& token) {
  const auto at = static_cast<size_t>(id);
  if (impl.tokens.size() <= at) {
    impl.tokens.resize(at + 1);
    impl.special.resize(at + 1);
    impl.skipped.resize(at + 1);
  }
  impl.tokens[at] = token;
}

void add_token(Tokenizer::Impl& impl, const AddedToken& token) {
  if (token.content.empty()) return;
  // A normalized token is searched, and decoded, as the normalizer leaves it; tokenizers then no longer knows
  // that it is special.
  std::string content = token.content;
  bool at_start = true;
  if (token.normalized && impl.normalizer) impl.normalizer->apply(content, at_start);
  name_id(impl, token.id, content);
  impl.ids.set(token.content, token.id);
  impl.special[static_cast<size_t>(token.id)] = token.special;
  impl.skipped[static_cast<size_t>(token.id)] = token.special && content == token.content;
  (token.normalized ? impl.normalized_tokens : impl.raw_tokens).add(token, content);
}

void read_vocabulary(Tokenizer::Impl& impl, const TokenizerFile& file, const std::string& where) {
  for (const auto& [token, id] : file.vocab) {
    name_id(impl, id, token);
    impl.ids.set(token, id);
  }
  if (!json_has(file.root, "added_tokens")) return;
  if (!file.root["added_tokens"].is_array())
    throw Error(ErrorKind::failed, "'added_tokens' must be a list", where);
  for (const Json& json : file.root["added_tokens"])
    add_token(impl, read_added_token(json, where + ": added_tokens"));
}

void read_config(Tokenizer::Impl& impl, const Json& config, const Json& post_processor,
                 const std::string& where) {
  const auto id_of = [&](const char* key) -> std::optional<int32_t> {
    const auto token = named_token(config, key, where);
    const int32_t id = token ? impl.ids.get(*token) : -1;
    return id >= 0 ? std::optional(id) : std::nullopt;
  };
  impl.bos = id_of("bos_token");
  impl.eos = id_of("eos_token");
  const bool flags =
      config.is_object() && (config.contains("add_bos_token") || config.contains("add_eos_token"));
  if (!flags) {
    impl.specials = tokenizer::make_template(post_processor, where);
    return;
  }
  impl.specials = {tokenizer::kText};
  const auto wanted = [&](const char* flag, const char* token, std::optional<int32_t> id) {
    if (!json_bool(config, flag, where, false) || !json_has(config, token)) return false;
    if (!id)
      throw Error(ErrorKind::failed, std::string(flag) + " is set, but the vocabulary lacks the " + token,
                  where);
    return true;
  };
  if (wanted("add_bos_token", "bos_token", impl.bos)) impl.specials.insert(impl.specials.begin(), *impl.bos);
  if (wanted("add_eos_token", "eos_token", impl.eos)) impl.specials.push_back(*impl.eos);
}

std::shared_ptr<Tokenizer::Impl> build(std::string_view tokenizer_json, std::string_view config_json,
                                       const std::string& where, bool scanners) {
  const TokenizerFile file = tokenizer::parse_tokenizer_file(tokenizer_json, where);
  const std::string version = json_string(file.root, "version", where, "1.0");
  if (version != "1.0")
    throw Error(ErrorKind::unsupported, "tokenizer.json of version " + version + " (1.0 is known)", where);
  const auto part = [&](const char* key) { return file.root.contains(key) ? file.root[key] : Json(nullptr); };
  auto impl = std::make_shared<Tokenizer::Impl>();
  impl->normalizer = tokenizer::make_normalizer(part("normalizer"), where);
  impl->model = tokenizer::make_model(file, where);
  bool bytes = false;
  impl->pre_tokenizer = tokenizer::make_pre_tokenizer(part("pre_tokenizer"), where,
                                                      impl->model->takes_bytes(), bytes, scanners);
  if (bytes) impl->model->expect_bytes();
  impl->decoder = tokenizer::make_decoder(part("decoder"), where);
  read_vocabulary(*impl, file, where);
  const Json config =
      config_json.empty() ? Json() : parse_json(config_json, where + ": tokenizer_config.json");
  read_config(*impl, config, part("post_processor"), where);
  Hasher hasher;
  hasher.field(tokenizer_json);
  for (const int32_t id : impl->specials) hasher.field(std::to_string(id));
  impl->hash = hasher.hex();
  return impl;
}

[[noreturn]] void no_tokenizer(const Path& folder) {
  std::error_code ignored;
  const std::string where = folder.string();
  if (!std::filesystem::is_directory(folder, ignored)) {
    throw Error(ErrorKind::not_found, "no such folder", where, "name the folder of a model");
  }
  std::string what = "there is no tokenizer.json";
  for (const char* other : {"tokenizer.model", "vocab.json", "tekken.json", "tiktoken.model"}) {
    if (std::filesystem::exists(folder / other, ignored)) what += std::string(", only ") + other;
  }
  throw Error(ErrorKind::not_found, what, where,
              "save one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder), or "
              "copy it from the model's page");
}

}  // namespace

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, std::string_view config_json,
                               const std::string& where) {
  Tokenizer result;
  result.impl_ = build(tokenizer_json, config_json, where, true);
  return result;
}

Tokenizer Tokenizer::from_json_without_scanners(std::string_view tokenizer_json, const std::string& where) {
  Tokenizer result;
  result.impl_ = build(tokenizer_json, "", where, false);
  return result;
}

Tokenizer Tokenizer::load(const Path& folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "tokenizer.json", ignored)) no_tokenizer(folder);
  const std::string text = read_text(folder / "tokenizer.json", kMaxFile);
  std::string config;
  if (std::filesystem::exists(folder / "tokenizer_config.json", ignored))
    config = read_text(folder / "tokenizer_config.json", kMaxFile);
  return from_json(text, config, (folder / "tokenizer.json").string());
}

}  // namespace qwb
