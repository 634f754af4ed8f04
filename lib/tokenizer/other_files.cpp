#include "lib/tokenizer/other_files.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "lib/base/error.h"
#include "lib/tokenizer/sentencepiece_file.h"
#include "lib/tokenizer/sentencepiece_normalizer.h"
#include "lib/tokenizer/special_tokens.h"

namespace qwb::tokenizer {
namespace {

std::string class_of(const Json& config) {
  if (!config.is_object() || !config.contains("tokenizer_class") ||
      !config["tokenizer_class"].is_string())
    return {};
  std::string name = config["tokenizer_class"].get<std::string>();
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

bool flag_of(const Json& config, const char* key, bool fallback) {
  return json_has(config, key) && config[key].is_boolean() ? config[key].get<bool>() : fallback;
}

// The merges of normal pieces, the best score first; of equal ones the lower id, then the text.
void add_merges(const SentencePieceFile& model, TokenizerFile& file) {
  std::unordered_map<std::string_view, int64_t> normal;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type == SentencePiece::normal)
      normal[model.pieces[id].text] = static_cast<int64_t>(id);
  }
  struct Merge {
    float score;
    int64_t id;
    std::string_view left, right;
  };
  std::vector<Merge> merges;
  for (const auto& [text, id] : normal) {
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if ((static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) continue;
      const Merge merge{model.pieces[static_cast<size_t>(id)].score, id, text.substr(0, cut),
                        text.substr(cut)};
      if (normal.contains(merge.left) && normal.contains(merge.right)) merges.push_back(merge);
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(b.score, a.id, a.left, a.right) < std::tie(a.score, b.id, b.left, b.right);
  });
  for (const Merge& merge : merges)
    file.merges.emplace_back(std::string(merge.left), std::string(merge.right));
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}-#&~ \t\n\r\v\f").find(c) != std::string_view::npos)
      out += '\\';
    out += c;
  }
  return out;
}

// User-defined pieces are never parts of others: they are cut out first, the longest first.
Json cut_out(const SentencePieceFile& model) {
  std::vector<std::string> texts;
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type == SentencePiece::user_defined) texts.push_back(piece.text);
  }
  if (texts.empty()) return nullptr;
  std::stable_sort(texts.begin(), texts.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::string pattern;
  for (const std::string& text : texts) pattern += (pattern.empty() ? "" : "|") + escaped(text);
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json decoder_of(const SentencePieceFile& model) {
  Json steps = Json::array();
  steps.push_back(
      {{"type", "Replace"}, {"pattern", {{"String", "\xe2\x96\x81"}}}, {"content", " "}});
  if (model.byte_fallback) steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (model.dummy_prefix)
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

// What stands around a text, if the configuration asks for it.
Json surroundings(const SentencePieceFile& model, const Json& config, const std::string& where) {
  Json single = Json::array(), tokens = Json::object();
  const auto add = [&](const char* flag, const char* key) {
    const auto text = named_token(config, key, where);
    if (!flag_of(config, flag, false) || !text) return;
    const auto it = std::find_if(model.pieces.begin(), model.pieces.end(),
                                 [&](const auto& piece) { return piece.text == *text; });
    if (it == model.pieces.end()) {
      throw Error(ErrorKind::unsupported,
                  std::string("'") + flag + "' with a token that the vocabulary lacks: " + *text,
                  where);
    }
    single.push_back({{"SpecialToken", {{"id", *text}, {"type_id", 0}}}});
    tokens[*text] = {{"id", *text},
                     {"ids", Json::array({it - model.pieces.begin()})},
                     {"tokens", Json::array({*text})}};
  };
  add("add_bos_token", "bos_token");
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add("add_eos_token", "eos_token");
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", Json::array()},
          {"special_tokens", tokens}};
}

Json listed_tokens_of(const SentencePieceFile& model) {
  Json list = Json::array();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type != SentencePiece::control) continue;
    list.push_back({{"id", id},
                    {"content", model.pieces[id].text},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  }
  return list;
}

void name_specials(const SentencePieceFile& model, Json& config) {
  if (config.is_null()) config = Json::object();
  const auto name = [&](const char* key, int64_t id, const std::string& text) {
    if (id >= 0 && !config.contains(key)) config[key] = text;
  };
  name("bos_token", model.bos_id, model.bos_text);
  name("eos_token", model.eos_id, model.eos_text);
  name("unk_token", model.unk_id, model.unk_text);
}

void add_vocabulary(const SentencePieceFile& model, TokenizerFile& file, const std::string& where) {
  std::set<std::string_view> seen;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (!seen.insert(piece.text).second)
      throw Error(ErrorKind::failed, "the piece '" + piece.text + "' appears twice", where);
    file.vocab.emplace_back(piece.text, static_cast<int32_t>(id));
    // No text becomes one of the others, however it is spelled.
    const bool matches =
        piece.type == SentencePiece::normal || piece.type == SentencePiece::user_defined;
    if (model.unigram)
      file.scores.push_back(matches ? static_cast<double>(piece.score)
                                    : -std::numeric_limits<double>::infinity());
  }
  file.scored = model.unigram;
}

}  // namespace

MadeTokenizer tokenizer_of_sentencepiece(std::string_view bytes, Json& config,
                                         const std::string& where) {
  const std::string name = class_of(config);
  if (!name.empty() && name != "LlamaTokenizer" && name != "GemmaTokenizer" &&
      name != "PreTrainedTokenizer" && name != "TokenizersBackend") {
    throw Error(ErrorKind::unsupported, "a tokenizer.model of the class " + name, where,
                "save a tokenizer.json with transformers: "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)");
  }
  const SentencePieceFile model = parse_sentencepiece(bytes, where);
  if (json_has(config, "add_prefix_space"))
    throw Error(ErrorKind::unsupported, "'add_prefix_space' with a tokenizer.model", where,
                "save a tokenizer.json with transformers");
  name_specials(model, config);
  const bool first_only = !flag_of(config, "legacy", name != "LlamaTokenizer");
  MadeTokenizer made{{},
                     make_sentencepiece_normalizer(model, first_only, where),
                     first_only ? "a space before the first part only" : ""};
  TokenizerFile& file = made.file;
  add_vocabulary(model, file, where);
  const Json cut = cut_out(model);
  file.root = {{"version", "1.0"},
               {"added_tokens", listed_tokens_of(model)},
               {"pre_tokenizer", cut},
               {"post_processor", surroundings(model, config, where)},
               {"decoder", decoder_of(model)}};
  Json& root = file.root["model"];
  root = {{"type", model.unigram ? "Unigram" : "BPE"}, {"byte_fallback", model.byte_fallback}};
  if (model.unigram) {
    root["unk_id"] = model.unk_id;
  } else {
    root["vocab"] = Json::object();  // its entries are in `file`
    root["unk_token"] = model.unk_text;
    root["fuse_unk"] = true;
    root["ignore_merges"] = !cut.is_null();
    add_merges(model, file);
  }
  return made;
}

std::string tokenizer_of_merges(std::string_view vocab_json, std::string_view merges,
                                const Json& config, const std::string& where) {
  Json list = Json::array();
  for (size_t at = 0; at < merges.size();) {
    const size_t end = std::min(merges.find('\n', at), merges.size());
    std::string line(merges.substr(at, end - at));
    at = end + 1;
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty() && !line.starts_with("#version")) list.push_back(line);
  }
  const Json vocab = parse_json(vocab_json, where);
  if (!vocab.is_object()) throw Error(ErrorKind::failed, "not a JSON object", where);
  Json single = Json::array(), tokens = Json::object();
  const auto add = [&](const char* flag, const char* key) {
    const auto text = named_token(config, key, where);
    if (!flag_of(config, flag, false)) return;
    if (!text || !vocab.contains(*text)) {
      throw Error(ErrorKind::unsupported,
                  std::string("'") + flag + "' without a token of that kind in the vocabulary",
                  where);
    }
    single.push_back({{"SpecialToken", {{"id", *text}, {"type_id", 0}}}});
    tokens[*text] = {
        {"id", *text}, {"ids", Json::array({vocab[*text]})}, {"tokens", Json::array({*text})}};
  };
  add("add_bos_token", "bos_token");
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add("add_eos_token", "eos_token");
  const Json root = {{"version", "1.0"},
                     {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                     {"decoder", {{"type", "ByteLevel"}}},
                     {"post_processor",
                      {{"type", "TemplateProcessing"},
                       {"single", single},
                       {"pair", Json::array()},
                       {"special_tokens", tokens}}},
                     {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}}};
  return root.dump();
}

}  // namespace qwb::tokenizer
