#include "lib/tokenizer/special_tokens.h"

#include <array>
#include <charconv>
#include <map>
#include <set>

#include "lib/base/error.h"
#include "lib/tokenizer/tokenizer_file.h"

namespace qwb::tokenizer {
namespace {

Json read_side_file(const Path& file) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return {};
  return parse_json(read_text(file, int64_t{256} << 20), file.string());
}

void require_object(const Json& json, const char* name, const std::string& where) {
  if (!json.is_null() && !json.is_object())
    throw Error(ErrorKind::failed, std::string(name) + " must hold an object", where);
}

AddedToken token_of(const Json& json, bool special, const std::string& where) {
  AddedToken token;
  token.special = special;
  token.normalized = !special;
  if (json.is_string()) {
    token.content = json.get<std::string>();
    return token;
  }
  token.content = json_string(json, "content", where);
  token.special = special || json_bool(json, "special", where, false);
  token.single_word = json_bool(json, "single_word", where, false);
  token.lstrip = json_bool(json, "lstrip", where, false);
  token.rstrip = json_bool(json, "rstrip", where, false);
  token.normalized = json_bool(json, "normalized", where, !token.special);
  return token;
}

// additional_special_tokens by its old and its new name: texts or objects; or an object of named
// ones.
std::vector<Json> extra_tokens(const Json& config) {
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    if (!json_has(config, key) || !config[key].is_structured() || config[key].empty()) continue;
    return {config[key].begin(), config[key].end()};
  }
  return {};
}

AddedToken read_added_token(const Json& json, const std::string& where) {
  const int64_t id = json_int(json, "id", where);
  AddedToken token = token_of(json, false, where);
  if (id < 0 || id > kMaxId) {
    throw Error(ErrorKind::failed,
                "the added token '" + token.content + "' has the id " + std::to_string(id), where,
                "the file is damaged");
  }
  token.id = static_cast<int32_t>(id);
  return token;
}

struct AddedTokens {
  std::vector<AddedToken> all;
  std::map<std::string, size_t> places;

  // Adds it, or gives its flags to the one with this content.
  void put(AddedToken token) {
    if (token.content.empty()) return;
    const auto [place, is_new] = places.emplace(token.content, all.size());
    if (is_new) {
      all.push_back(std::move(token));
      return;
    }
    AddedToken& known = all[place->second];
    token.special = token.special || known.special;
    token.id = known.id;
    known = std::move(token);
  }
  // Adds it, or makes the one with this content special, if it is.
  void put_new(AddedToken token) {
    const auto known = places.find(token.content);
    if (known == places.end()) return put(std::move(token));
    all[known->second].special = all[known->second].special || token.special;
  }
};

}  // namespace

Json complete_tokenizer_config(Json config, const Json& special_tokens_map,
                               const Json& added_tokens, const std::string& where) {
  require_object(config, "tokenizer_config.json", where);
  require_object(special_tokens_map, "special_tokens_map.json", where);
  require_object(added_tokens, "added_tokens.json", where);
  if (config.is_object() && config.contains("added_tokens_decoder")) return config;
  if (config.is_null() && special_tokens_map.is_null() && added_tokens.is_null()) return config;
  if (config.is_null()) config = Json::object();
  if (special_tokens_map.is_object()) {
    for (const auto& [key, value] : special_tokens_map.items()) {
      if (key == "extra_special_tokens" && value.is_array() && json_has(config, key) &&
          config[key].is_array()) {
        for (const Json& token : value) config[key].push_back(token);
      } else {
        config[key] = value;
      }
    }
  }
  if (!added_tokens.is_object()) return config;
  std::set<std::string> special;
  for (const char* key : kNamedTokens) special.insert(named_token(config, key, where).value_or(""));
  for (const Json& token : extra_tokens(config))
    special.insert(token_of(token, true, where).content);
  Json decoder = Json::object();
  for (const auto& [content, id] : added_tokens.items()) {
    if (!id.is_number_integer())
      throw Error(ErrorKind::failed, "added_tokens.json: '" + content + "' has no id", where);
    const bool is_special = special.contains(content);
    decoder[std::to_string(id.get<int64_t>())] = {
        {"content", content}, {"normalized", !is_special}, {"special", is_special}};
  }
  config["added_tokens_decoder"] = decoder;
  return config;
}

Json read_tokenizer_config(const Path& folder) {
  return complete_tokenizer_config(read_side_file(folder / "tokenizer_config.json"),
                                   read_side_file(folder / "special_tokens_map.json"),
                                   read_side_file(folder / "added_tokens.json"), folder.string());
}

std::optional<std::string> named_token(const Json& config, const std::string& key,
                                       const std::string& where) {
  if (!json_has(config, key)) return std::nullopt;
  if (config[key].is_object()) return json_string(config[key], "content", where);
  return json_string(config, key, where);
}

std::vector<AddedToken> added_tokens(const Json& listed, const Json& config,
                                     const std::string& where) {
  AddedTokens tokens;
  if (!listed.is_null() && !listed.is_array())
    throw Error(ErrorKind::failed, "'added_tokens' must be a list", where);
  for (const Json& json : listed) tokens.put(read_added_token(json, where + ": added_tokens"));
  if (json_has(config, "added_tokens_decoder")) {
    require_object(config["added_tokens_decoder"], "added_tokens_decoder", where);
    std::map<int64_t, const Json*> by_id;
    for (const auto& [key, value] : config["added_tokens_decoder"].items()) {
      int64_t id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size())
        throw Error(ErrorKind::failed, "added_tokens_decoder: '" + key + "' is no id", where);
      by_id[id] = &value;
    }
    for (const auto& [id, value] : by_id) tokens.put(token_of(*value, false, where));
  }
  for (const char* key : kNamedTokens) {
    if (json_has(config, key)) tokens.put_new(token_of(config[key], true, where));
  }
  // Objects say themselves whether they are special.
  for (const Json& extra : extra_tokens(config))
    tokens.put_new(token_of(extra, extra.is_string(), where));
  return tokens.all;
}

}  // namespace qwb::tokenizer
