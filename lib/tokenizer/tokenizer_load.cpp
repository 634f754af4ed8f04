// Reading tokenizer.json and tokenizer_config.json, or what older folders have in their place.
#include <algorithm>
#include <map>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/tokenizer/other_files.h"
#include "lib/tokenizer/special_tokens.h"
#include "lib/tokenizer/tokenizer_class.h"
#include "lib/tokenizer/tokenizer_file.h"
#include "lib/tokenizer/tokenizer_impl.h"

namespace qwb {
namespace {

using tokenizer::AddedToken;
using tokenizer::TokenizerFile;

constexpr int64_t kMaxFile = int64_t{256} << 20;

void name_id(Tokenizer::Impl& impl, int32_t id, const std::string& token) {
  const auto at = static_cast<size_t>(id);
  if (impl.tokens.size() <= at) {
    impl.tokens.resize(at + 1);
    impl.special.resize(at + 1);
    impl.skipped.resize(at + 1);
  }
  impl.tokens[at] = token;
}

// The id that tokenizers gives: the existing one, of a token or of the vocabulary, else the next
// free one. The id in the file is ignored.
class IdGiver {
 public:
  explicit IdGiver(size_t vocabulary) : vocabulary_(static_cast<int64_t>(vocabulary)) {}
  int32_t id_for(const Tokenizer::Impl& impl, const std::string& content) {
    const int32_t known = impl.ids.get(content);
    const int64_t id = known >= 0 ? known : largest_ >= vocabulary_ ? largest_ + 1 : vocabulary_;
    largest_ = std::max(largest_, id);
    return static_cast<int32_t>(id);
  }

 private:
  int64_t vocabulary_;    // tokens in the model
  int64_t largest_ = -1;  // of the added tokens
};

void add_token(Tokenizer::Impl& impl, IdGiver& ids, AddedToken token) {
  token.id = ids.id_for(impl, token.content);
  // A normalized token is searched, and decoded, as the normalizer leaves it; tokenizers then no
  // longer knows that it is special.
  std::string content = token.content;
  bool at_start = true;
  if (token.normalized && impl.normalizer) impl.normalizer->apply(content, at_start);
  name_id(impl, token.id, content);
  impl.ids.set(token.content, token.id);
  impl.added.insert(token.id);
  impl.special[token.id] = token.special;
  impl.skipped[token.id] = token.special && content == token.content;
  (token.normalized ? impl.normalized_tokens : impl.raw_tokens).add(token, content);
}

void read_vocabulary(Tokenizer::Impl& impl, const TokenizerFile& file,
                     const std::vector<AddedToken>& added) {
  for (const auto& [token, id] : file.vocab) {
    name_id(impl, id, token);
    impl.ids.set(token, id);
  }
  IdGiver ids(file.vocab.size());
  for (const AddedToken& token : added) add_token(impl, ids, token);
}

// The post-processor decides which tokens stand around a text. transformers 5 ignores add_bos_token
// and add_eos_token where there is a tokenizer.json.
void read_specials(Tokenizer::Impl& impl, const Json& config, const Json& post_processor,
                   const std::string& where) {
  const auto id_of = [&](const char* key) -> std::optional<int32_t> {
    const auto token = tokenizer::named_token(config, key, where);
    const int32_t id = token ? impl.ids.get(*token) : -1;
    return id >= 0 ? std::optional(id) : std::nullopt;
  };
  impl.bos = id_of("bos_token");
  impl.eos = id_of("eos_token");
  impl.specials = tokenizer::make_template(post_processor, where);
}

std::string flags_text(const AddedToken& token) {
  std::string text = token.content;
  for (const bool flag :
       {token.single_word, token.lstrip, token.rstrip, token.normalized, token.special})
    text += flag ? '1' : '0';
  return text;
}

// The listed tokens that other files give other flags.
std::string changed_flags(const std::vector<AddedToken>& listed,
                          const std::vector<AddedToken>& all) {
  std::map<std::string_view, const AddedToken*> known;
  for (const AddedToken& token : listed) known[token.content] = &token;
  std::string text;
  for (const AddedToken& token : all) {
    const auto it = known.find(token.content);
    if (it != known.end() && flags_text(*it->second) != flags_text(token))
      text += flags_text(token) + " ";
  }
  return text;
}

size_t listed_tokens(const TokenizerFile& file) {
  return json_has(file.root, "added_tokens") ? file.root["added_tokens"].size() : 0;
}

// What of these parts decides ids, so that two spellings of one meaning are equal.
Json meaning(const Json& part) {
  if (!part.is_structured()) return part;
  Json kept = part.is_array() ? Json::array() : Json::object();
  for (const auto& [key, value] : part.items()) {
    if (part.is_array()) {
      kept.push_back(meaning(value));
    } else if (value != nullptr && value != "" && key != "trim_offsets" &&
               !(value == false && key != "add_prefix_space" && key != "use_regex")) {
      kept[key] = meaning(value);
    }
  }
  return kept;
}

std::string deciding_parts(const Json& root) {
  Json parts = Json::object();
  for (const char* key : {"normalizer", "pre_tokenizer"}) {
    if (json_has(root, key)) parts[key] = root[key];
  }
  if (json_has(root, "model") && root["model"].is_object()) {
    for (const auto& [key, value] : root["model"].items()) {
      if (key != "vocab" && key != "merges") parts["model"][key] = value;
    }
  }
  return meaning(parts).dump();
}

// `hashed`: the bytes that `made` is from; model: config.json, null if there is none. A tokenizer
// with a normalizer is not of a tokenizer.json, whose class could bring another.
std::shared_ptr<Tokenizer::Impl> build(tokenizer::MadeTokenizer made, std::string_view hashed,
                                       Json config, const Json& model, const std::string& where,
                                       bool scanners) {
  TokenizerFile& file = made.file;
  const std::string version = json_string(file.root, "version", where, "1.0");
  if (version != "1.0")
    throw Error(ErrorKind::unsupported, "tokenizer.json of version " + version + " (1.0 is known)",
                where);
  const auto part = [&](const char* key) {
    return file.root.contains(key) ? file.root[key] : Json(nullptr);
  };
  auto impl = std::make_shared<Tokenizer::Impl>();
  const size_t listed = listed_tokens(file);
  const std::vector<AddedToken> own_tokens =
      tokenizer::added_tokens(part("added_tokens"), Json(), where);
  const std::string own_parts = deciding_parts(file.root);
  impl->normalizer = std::move(made.normalizer);
  if (!impl->normalizer) {
    impl->note = tokenizer::apply_tokenizer_class(file, config, model, where);
    impl->normalizer = tokenizer::make_normalizer(part("normalizer"), where);
  }
  impl->model = tokenizer::make_model(file, where);
  bool bytes = false;
  impl->pre_tokenizer = tokenizer::make_pre_tokenizer(part("pre_tokenizer"), where,
                                                      impl->model->takes_bytes(), bytes, scanners);
  if (bytes) impl->model->expect_bytes();
  impl->decoder = tokenizer::make_decoder(part("decoder"), where);
  const std::vector<AddedToken> all_tokens =
      tokenizer::added_tokens(part("added_tokens"), config, where);
  read_vocabulary(*impl, file, all_tokens);
  const bool splits_special = json_bool(config, "split_special_tokens", where, false);
  if (splits_special) {
    impl->raw_tokens.ignore(impl->special);
    impl->normalized_tokens.ignore(impl->special);
  }
  read_specials(*impl, config, part("post_processor"), where);
  for (const char* key : tokenizer::kNamedTokens) {
    if (const auto text = tokenizer::named_token(config, key, where)) impl->named[key] = *text;
  }
  Hasher hasher;
  hasher.field(hashed);
  if (!made.settings.empty()) hasher.field(made.settings);
  for (const int32_t id : impl->specials) hasher.field(std::to_string(id));
  // Tokens that are not in tokenizer.json decide ids too.
  if (impl->added.size() != listed) {
    for (const int32_t id : impl->added) hasher.field(impl->tokens[id]);
  }
  if (const std::string flags = changed_flags(own_tokens, all_tokens); !flags.empty())
    hasher.field(flags);
  if (const std::string parts = deciding_parts(file.root); parts != own_parts) hasher.field(parts);
  if (splits_special) hasher.field("split_special_tokens");
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
  for (const char* other : {"vocab.json", "tekken.json", "tiktoken.model"}) {
    if (std::filesystem::exists(folder / other, ignored)) what += std::string(", only ") + other;
  }
  throw Error(ErrorKind::not_found, what, where,
              "save one with transformers: "
              "AutoTokenizer.from_pretrained(folder).save_pretrained(folder), or "
              "copy it from the model's page");
}

tokenizer::MadeTokenizer parsed(std::string_view tokenizer_json, const std::string& where) {
  return {tokenizer::parse_tokenizer_file(tokenizer_json, where), nullptr, {}};
}

// config.json, or null.
Json model_settings(const Path& folder) {
  const Path file = folder / "config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return nullptr;
  return parse_json(read_text(file, kMaxFile), file.string());
}

// What a folder without tokenizer.json has in its place.
std::shared_ptr<Tokenizer::Impl> build_of_others(const Path& folder) {
  std::error_code ignored;
  const auto has = [&](const char* name) {
    return std::filesystem::exists(folder / name, ignored);
  };
  Json config = tokenizer::read_tokenizer_config(folder);
  const Json model = model_settings(folder);
  if (has("tokenizer.model")) {
    const std::string where = (folder / "tokenizer.model").string();
    const std::string bytes = read_text(folder / "tokenizer.model", kMaxFile);
    tokenizer::MadeTokenizer made = tokenizer::tokenizer_of_sentencepiece(bytes, config, where);
    return build(std::move(made), bytes, config, model, where, true);
  }
  if (!has("vocab.json") || !has("merges.txt")) no_tokenizer(folder);
  const std::string where = (folder / "vocab.json").string();
  tokenizer::need_byte_level_class(config, model, where);
  const std::string text =
      tokenizer::tokenizer_of_merges(read_text(folder / "vocab.json", kMaxFile),
                                     read_text(folder / "merges.txt", kMaxFile), config, where);
  return build(parsed(text, where), text, config, model, where, true);
}

}  // namespace

Tokenizer Tokenizer::of(tokenizer::ParsedTokenizer parsed) {
  Tokenizer result;
  result.impl_ = build({std::move(parsed.file), nullptr, {}}, parsed.text, parsed.config,
                       parsed.model, parsed.where, true);
  return result;
}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, std::string_view config_json,
                               const std::string& where) {
  Json config =
      config_json.empty() ? Json() : parse_json(config_json, where + ": tokenizer_config.json");
  return of({tokenizer::parse_tokenizer_file(tokenizer_json, where), tokenizer_json,
             std::move(config), Json(), where});
}

Tokenizer Tokenizer::from_json_without_scanners(std::string_view tokenizer_json,
                                                const std::string& where) {
  Tokenizer result;
  result.impl_ = build(parsed(tokenizer_json, where), tokenizer_json, Json(), Json(), where, false);
  return result;
}

Tokenizer Tokenizer::load(const Path& folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "tokenizer.json", ignored)) {
    Tokenizer result;
    result.impl_ = build_of_others(folder);
    return result;
  }
  const std::string text = read_text(folder / "tokenizer.json", kMaxFile);
  const std::string where = (folder / "tokenizer.json").string();
  return of({tokenizer::parse_tokenizer_file(text, where), text,
             tokenizer::read_tokenizer_config(folder), model_settings(folder), where});
}

}  // namespace qwb
