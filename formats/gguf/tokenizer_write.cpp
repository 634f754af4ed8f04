// From Hugging Face files to tokenizer.* keys.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "formats/companions.h"
#include "formats/gguf/tokenizer.h"
#include "lib/tokenizer/added_tokens.h"
#include "lib/tokenizer/model.h"
#include "lib/tokenizer/special_tokens.h"
#include "lib/tokenizer/tokenizer_class.h"
#include "lib/tokenizer/tokenizer_file.h"

namespace qwb {
namespace {

using tokenizer::TokenizerFile;

enum WrittenKind : int32_t {
  kPlain = 1,
  kUnk = 2,
  kSpecial = 3,
  kAdded = 4,
  kUnusedRow = 5,
  kByteToken = 6
};

struct WrittenTokens {
  std::vector<std::string> texts;
  std::vector<int32_t> kinds;
  std::vector<float> scores;
};

[[noreturn]] void cannot_write(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::unsupported, what, where,
              "llama.cpp could not tokenize as this model does");
}

// Converters mark these as control tokens whatever the file says, and llama.cpp expects it.
bool looks_special(const std::string& text) {
  return text.size() > 4 && text.starts_with("<|") && text.ends_with("|>");
}

std::string with_spaces(std::string text) {
  const std::string mark = "\xe2\x96\x81";
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at))
    text.replace(at, 3, " ");
  return text;
}

void place(WrittenTokens& tokens, int64_t id, const std::string& text, int32_t kind,
           const std::string& where) {
  if (id < 0 || id >= static_cast<int64_t>(tokens.texts.size()))
    throw Error(
        ErrorKind::failed,
        "token '" + text + "' has the id " + std::to_string(id) + ", beyond the embedding's rows",
        where);
  tokens.texts[id] = text;
  tokens.kinds[id] = kind;
}

Json part_of(const TokenizerFile& file, const char* name) {
  return file.root.contains(name) ? file.root[name] : Json(nullptr);
}

// The added tokens of the file and of its side files, each with the id that it has for `tokenizer`.
std::vector<tokenizer::AddedToken> added_tokens(const TokenizerFile& file, const Json& config,
                                                const Tokenizer& tokenizer,
                                                const std::string& where) {
  std::vector<tokenizer::AddedToken> all =
      tokenizer::added_tokens(part_of(file, "added_tokens"), config, where);
  for (tokenizer::AddedToken& token : all) {
    token.id = tokenizer.id_of(token.content).value_or(-1);
    token.special = tokenizer.is_special(token.id);
  }
  return all;
}

WrittenTokens list_tokens(const TokenizerFile& file,
                          const std::vector<tokenizer::AddedToken>& added, int64_t rows,
                          const std::string& where) {
  WrittenTokens tokens;
  for (int64_t i = 0; i < rows; ++i) tokens.texts.push_back("[PAD" + std::to_string(i) + "]");
  tokens.kinds.assign(static_cast<size_t>(rows), kUnusedRow);
  for (const auto& [text, id] : file.vocab) place(tokens, id, text, kPlain, where);
  for (const tokenizer::AddedToken& token : added) {
    const bool special = token.special || looks_special(token.content);
    place(tokens, token.id, special ? token.content : with_spaces(token.content),
          special ? kSpecial : kAdded, where);
  }
  return tokens;
}

// GGUF holds an added token's text and kind only; llama.cpp finds it wherever its bytes stand.
void note_lost_flags(const std::vector<tokenizer::AddedToken>& added, bool normalizer,
                     const Context& context) {
  const std::pair<const char*, bool tokenizer::AddedToken::*> kFlags[] = {
      {"lstrip", &tokenizer::AddedToken::lstrip},
      {"rstrip", &tokenizer::AddedToken::rstrip},
      {"single_word", &tokenizer::AddedToken::single_word},
      {"normalized", &tokenizer::AddedToken::normalized}};
  for (const auto& [name, flag] : kFlags) {
    if (flag == &tokenizer::AddedToken::normalized && !normalizer) continue;
    std::string first;
    size_t count = 0;
    for (const tokenizer::AddedToken& token : added) {
      if (token.*flag && count++ == 0) first = token.content;
    }
    if (count == 0) continue;
    context.progress->note("GGUF has no place for \"" + std::string(name) +
                           "\" of the added token '" + first + "'" +
                           (count > 1 ? " and " + std::to_string(count - 1) + " others" : "") +
                           ": llama.cpp cuts texts with it differently");
  }
}

bool has_step(const Json& step, const std::string& type) {
  if (!step.is_object()) return false;
  for (const char* list : {"pretokenizers", "normalizers", "decoders"}) {
    if (!step.contains(list)) continue;
    return std::any_of(step[list].begin(), step[list].end(),
                       [&](const Json& inner) { return has_step(inner, type); });
  }
  return step.contains("type") && step["type"] == type;
}

void add_byte_level(const TokenizerFile& file, WrittenTokens& tokens, GgufMetadata& metadata,
                    const std::string& where) {
  metadata.add("tokenizer.ggml.model", GgufValue::of_string("gpt2"));
  metadata.add("tokenizer.ggml.pre",
               GgufValue::of_string(gguf_pre_tokenizer_name(file.root, where)));
  metadata.add("tokenizer.ggml.tokens", GgufValue::of_strings(std::move(tokens.texts)));
  metadata.add("tokenizer.ggml.token_type", GgufValue::of_i32s(tokens.kinds));
  std::vector<std::string> merges;
  for (const auto& [left, right] : file.merges) {
    merges.push_back(left);
    merges.back().append(" ").append(right);
  }
  metadata.add("tokenizer.ggml.merges", GgufValue::of_strings(std::move(merges)));
}

// Whether a text gets a space before it, as the normalizer or pre-tokenizer says. Everything else
// that they may do is refused.
bool space_prefix(const TokenizerFile& file, const std::string& where) {
  const Json normalizer = part_of(file, "normalizer"), step = part_of(file, "pre_tokenizer");
  const auto plain = [&](const Json& n) {
    const std::string type = json_string(n, "type", where);
    return type == "Prepend" || (type == "Replace" && json_has(n, "pattern") &&
                                 n["pattern"].contains("String") && n["pattern"]["String"] == " ");
  };
  if (normalizer.is_object()) {
    const bool list = normalizer.contains("normalizers");
    const Json steps = list ? normalizer["normalizers"] : Json::array({normalizer});
    if (!std::all_of(steps.begin(), steps.end(), plain))
      cannot_write("the normalizer does more than to mark spaces", where);
  }
  if (step.is_null()) return has_step(normalizer, "Prepend");
  if (!has_step(step, "Metaspace") || step.contains("pretokenizers"))
    cannot_write("the pre-tokenizer is not Metaspace alone", where);
  const bool old = json_bool(step, "add_prefix_space", where, true);
  return json_string(step, "prepend_scheme", where, old ? "always" : "never") != "never";
}

// The score of a piece is the place of the merge that first makes it; single characters come after
// all merges.
void score_pieces(const TokenizerFile& file, WrittenTokens& tokens) {
  std::unordered_map<std::string, size_t> made;
  const Json& model = file.root["model"];
  const Json begins = json_has(model, "equal_merges") ? model["equal_merges"] : Json::array();
  size_t group = 0;  // merges of one rank give pieces of one score
  for (size_t i = 0; i < file.merges.size(); ++i) {
    while (group + 1 < begins.size() && begins[group + 1] <= i) ++group;
    made.emplace(file.merges[i].first + file.merges[i].second, begins.empty() ? i : group);
  }
  tokens.scores.assign(tokens.texts.size(), 0.0f);
  size_t next = file.merges.size();
  for (size_t id = 0; id < tokens.texts.size(); ++id) {
    if (tokens.kinds[id] == kUnusedRow) tokens.scores[id] = -10000.0f;
    if (tokens.kinds[id] != kPlain) continue;
    const auto it = made.find(tokens.texts[id]);
    tokens.scores[id] = -static_cast<float>(it == made.end() ? next++ : it->second);
  }
}

void add_pieces(const TokenizerFile& file, WrittenTokens& tokens, GgufMetadata& metadata,
                const std::string& where) {
  const bool prefix = space_prefix(file, where);
  std::set<std::string> bytes;
  for (int b = 0; b < 256; ++b) bytes.insert(tokenizer::byte_token(static_cast<unsigned char>(b)));
  const std::string unknown = json_string(file.root["model"], "unk_token", where, "");
  for (size_t id = 0; id < tokens.texts.size(); ++id) {
    if (tokens.kinds[id] == kPlain && bytes.contains(tokens.texts[id]))
      tokens.kinds[id] = kByteToken;
    if (!unknown.empty() && tokens.texts[id] == unknown) tokens.kinds[id] = kUnk;
  }
  score_pieces(file, tokens);
  metadata.add("tokenizer.ggml.model", GgufValue::of_string("llama"));
  metadata.add("tokenizer.ggml.pre", GgufValue::of_string("default"));
  metadata.add("tokenizer.ggml.tokens", GgufValue::of_strings(std::move(tokens.texts)));
  metadata.add("tokenizer.ggml.scores", GgufValue::of_floats(tokens.scores));
  metadata.add("tokenizer.ggml.token_type", GgufValue::of_i32s(tokens.kinds));
  metadata.add("tokenizer.ggml.add_space_prefix", GgufValue::of_bool(prefix));
}

void add_special_ids(const OpenModel& open, const Tokenizer& tokenizer, const Json& config,
                     const std::string& where, GgufMetadata& metadata) {
  const std::pair<const char*, const char*> kNames[] = {
      {"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"}};
  int64_t eos = -1;
  for (const auto& [name, key] : kNames) {
    const auto text = tokenizer::named_token(config, std::string(name) + "_token", where);
    const auto id = text ? tokenizer.id_of(*text) : std::nullopt;
    const std::string field = std::string(name) + "_token_id";
    int64_t number = id ? *id : -1;
    if (!id && json_has(open.config, field) && open.config.at(field).is_number_integer())
      number = open.config.at(field).get<int64_t>();
    if (number < 0) continue;
    if (key == std::string("eos")) eos = number;
    metadata.add(std::string("tokenizer.ggml.") + key + "_token_id", GgufValue::of_u32(number));
  }
  // A second end, which chat models often have.
  const auto text = companion_text(open, "generation_config.json");
  const Json generation = text ? parse_json(*text, where) : Json();
  for (const Json* ends : {&open.config, &generation}) {
    if (!json_has(*ends, "eos_token_id") || !ends->at("eos_token_id").is_array()) continue;
    for (const Json& id : ends->at("eos_token_id")) {
      if (id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() != eos)
        metadata.add("tokenizer.ggml.eot_token_id", GgufValue::of_u32(id.get<int64_t>()));
    }
  }
}

void add_frame(const Tokenizer& tokenizer, GgufMetadata& metadata, const Context& context) {
  std::vector<int32_t> suffix = tokenizer.encode("", true);
  const std::vector<int32_t> prefix = tokenizer.special_prefix();
  suffix.erase(suffix.begin(), suffix.begin() + std::min(std::ssize(prefix), std::ssize(suffix)));
  const bool bos = prefix.size() == 1 && tokenizer.bos_id() == prefix[0];
  const bool eos = suffix.size() == 1 && tokenizer.eos_id() == suffix[0];
  if (prefix.size() != (bos ? 1u : 0u) || suffix.size() != (eos ? 1u : 0u))
    context.progress->note(
        "the tokenizer puts other special tokens around a text than BOS before and EOS behind it; "
        "llama.cpp "
        "will "
        "not");
  metadata.add("tokenizer.ggml.add_bos_token", GgufValue::of_bool(bos));
  metadata.add("tokenizer.ggml.add_eos_token", GgufValue::of_bool(eos));
}

// ByteLevel's own space before a text has no key that llama.cpp heeds.
bool adds_byte_level_space(const Json& step, const std::string& where) {
  if (!step.is_object()) return false;
  if (step.contains("pretokenizers")) {
    return std::any_of(step["pretokenizers"].begin(), step["pretokenizers"].end(),
                       [&](const Json& inner) { return adds_byte_level_space(inner, where); });
  }
  return json_string(step, "type", where) == "ByteLevel" &&
         json_bool(step, "add_prefix_space", where, true);
}

// Steps that GGUF has no key for, or whose key llama.cpp does not heed.
void note_lost_steps(const TokenizerFile& file, const Json& config, bool bytes,
                     const std::string& where, const Context& context) {
  const Json normalizer = part_of(file, "normalizer"), step = part_of(file, "pre_tokenizer");
  const auto note = [&](const std::string& text) { context.progress->note(text); };
  if (bytes && adds_byte_level_space(step, where))
    note("the tokenizer puts a space before every text (add_prefix_space); llama.cpp will not");
  if (bytes && !normalizer.is_null())
    note("the tokenizer normalizes texts (" +
         json_string(normalizer, "type", where, "a normalizer") + "); llama.cpp will not");
  if (!bytes && has_step(step, "Metaspace") && json_bool(step, "split", where, true))
    note("the tokenizer cuts texts at spaces before it joins pieces; llama.cpp will not");
  if (!bytes && json_has(step, "prepend_scheme") && step["prepend_scheme"] == "first")
    note(
        "the tokenizer puts a space before the first word of a text only; llama.cpp puts one "
        "behind "
        "every special token too");
  if (json_bool(config, "split_special_tokens", where, false))
    note(
        "the tokenizer cuts special tokens in a text apart (split_special_tokens); llama.cpp will "
        "not");
}

// The files beside tokenizer.json as one, as transformers reads them.
Json tokenizer_config_of(const OpenModel& open, const std::string& where) {
  const auto read = [&](const char* name) {
    const auto text = companion_text(open, name);
    return text ? parse_json(*text, where) : Json();
  };
  return tokenizer::complete_tokenizer_config(read("tokenizer_config.json"),
                                              read("special_tokens_map.json"),
                                              read("added_tokens.json"), where);
}

void add_chat_template(const OpenModel& open, const Json& config, const std::string& where,
                       GgufMetadata& metadata) {
  auto text = companion_text(open, "chat_template.jinja");
  if (!text && json_has(config, "chat_template")) {
    const Json& found = config["chat_template"];
    if (found.is_string()) text = found.get<std::string>();
    for (const Json& named : found.is_array() ? found : Json::array()) {
      if (json_string(named, "name", where) == "default")
        text = json_string(named, "template", where);
    }
  }
  if (text) metadata.add("tokenizer.chat_template", GgufValue::of_string(*text));
}

}  // namespace

void add_gguf_tokenizer(const OpenModel& open, int64_t vocabulary, GgufMetadata& metadata,
                        const Context& context) {
  const std::string where = (open.folder / "tokenizer.json").string();
  const auto text = companion_text(open, "tokenizer.json");
  if (!text) {
    context.progress->note("there is no tokenizer.json: the file will hold no tokenizer");
    metadata.add("tokenizer.ggml.model", GgufValue::of_string("none"));
    return;
  }
  TokenizerFile file = tokenizer::parse_tokenizer_file(*text, where);
  if (!json_has(file.root, "model") || file.scored || !file.root["model"].contains("merges"))
    cannot_write("the tokenizer is not a BPE", where);
  Json config = tokenizer_config_of(open, where);
  const Json model = has_inner_companions(open) ? Json() : open.config;
  // As open_tokenizer() makes it, whose file would be parsed once more.
  const Tokenizer tokenizer = Tokenizer::of({file, *text, config, model, where});
  // The class may replace the parts that decide ids.
  tokenizer::apply_tokenizer_class(file, config, model, where);
  const auto added = added_tokens(file, config, tokenizer, where);
  WrittenTokens tokens = list_tokens(file, added, vocabulary, where);
  const bool bytes = has_step(part_of(file, "pre_tokenizer"), "ByteLevel");
  if (!bytes && !json_bool(file.root["model"], "byte_fallback", where, false))
    cannot_write("the BPE is neither byte-level nor has bytes to fall back on", where);
  bytes ? add_byte_level(file, tokens, metadata, where) : add_pieces(file, tokens, metadata, where);
  note_lost_flags(added, !part_of(file, "normalizer").is_null(), context);
  note_lost_steps(file, config, bytes, where, context);
  add_special_ids(open, tokenizer, config, where, metadata);
  add_frame(tokenizer, metadata, context);
  add_chat_template(open, config, where, metadata);
}

}  // namespace qwb
