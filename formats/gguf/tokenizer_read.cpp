// From tokenizer.* keys to Hugging Face files.
#include <algorithm>
#include <unordered_map>

#include "formats/gguf/tokenizer.h"

namespace qwb {
namespace {

constexpr size_t kLongestPiece = 256;  // bytes; longer ones cannot be reached by merging pieces

enum TokenKind : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Vocabulary {
  const std::vector<std::string>* tokens = nullptr;
  std::vector<int64_t> kinds;
  std::vector<float> scores;
  std::map<std::string, int64_t> special;  // "bos" -> id

  bool is_added(size_t id) const {
    return kinds[id] == kControl || kinds[id] == kUserDefined || kinds[id] == kUnknown;
  }
  // Rows of the embedding that no token has.
  bool is_padding(size_t id) const {
    return kinds[id] == kUnused && (*tokens)[id] == "[PAD" + std::to_string(id) + "]";
  }
};

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

const std::vector<std::string>& string_list(const GgufMetadata& metadata, const char* key,
                                            const std::string& where) {
  const GgufValue* value = metadata.find(key);
  if (value == nullptr || !value->is_array || value->kind != GgufKind::string)
    throw Error(ErrorKind::failed, "'" + std::string(key) + "' is not a list of texts", where,
                "the file is incomplete");
  return value->strings;
}

// A list with at least one number per token; null if there is none.
const GgufValue* number_list(const GgufMetadata& metadata, const std::string& key, size_t tokens,
                             const std::string& where) {
  const GgufValue* value = metadata.find(key);
  if (value == nullptr) return nullptr;
  if (!value->is_array || value->kind == GgufKind::string ||
      static_cast<size_t>(value->count()) < tokens)
    throw Error(ErrorKind::failed, "'" + key + "' has no number for every token", where,
                "the file is damaged");
  return value;
}

Vocabulary read_vocabulary(const GgufMetadata& metadata, bool pieces, const std::string& where) {
  Vocabulary vocabulary;
  vocabulary.tokens = &string_list(metadata, "tokenizer.ggml.tokens", where);
  const size_t count = vocabulary.tokens->size();
  vocabulary.kinds.assign(count, kNormal);
  if (const auto* kinds = number_list(metadata, "tokenizer.ggml.token_type", count, where)) {
    for (size_t i = 0; i < count; ++i)
      vocabulary.kinds[i] = kinds->integer(where + ": token types", static_cast<int64_t>(i));
  }
  vocabulary.scores.assign(count, 0.0f);
  if (const auto* scores = number_list(metadata, "tokenizer.ggml.scores", count, where)) {
    for (size_t i = 0; i < count; ++i)
      vocabulary.scores[i] =
          static_cast<float>(scores->number(where + ": scores", static_cast<int64_t>(i)));
  }
  const std::map<std::string, int64_t> fallback =
      pieces ? std::map<std::string, int64_t>{{"bos", 1}, {"eos", 2}, {"unknown", 0}}
             : std::map<std::string, int64_t>{};
  for (const char* name : {"bos", "eos", "unknown", "padding", "eot", "eom"}) {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    const auto known = fallback.find(name);
    const int64_t usual = known == fallback.end() ? -1 : known->second;
    const auto held = [&](int64_t id) { return id >= 0 && id < static_cast<int64_t>(count); };
    // llama.cpp takes the usual token too where the file names one beyond the vocabulary.
    const int64_t given = metadata.integer(key, where, usual);
    const int64_t id = held(given) ? given : usual;
    if (held(id)) vocabulary.special[name] = id;
  }
  return vocabulary;
}

// "vocab": tokens with their ids. Written as text: an ordered JSON object searches linearly at
// every insertion.
std::string vocab_text(const Vocabulary& vocabulary) {
  std::string text = "{";
  for (size_t id = 0; id < vocabulary.tokens->size(); ++id) {
    if (vocabulary.is_padding(id)) continue;
    if (text.size() > 1) text += ",";
    text += quoted((*vocabulary.tokens)[id]) + ":" + std::to_string(id);
  }
  return text + "}";
}

Json added_tokens(const Vocabulary& vocabulary) {
  Json list = Json::array();
  for (size_t id = 0; id < vocabulary.tokens->size(); ++id) {
    if (!vocabulary.is_added(id)) continue;
    list.push_back({{"id", id},
                    {"content", (*vocabulary.tokens)[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", vocabulary.kinds[id] != kUserDefined}});
  }
  return list;
}

std::string merges_text(const std::vector<std::pair<std::string, std::string>>& merges) {
  std::string text = "[";
  for (const auto& [left, right] : merges) {
    if (text.size() > 1) text += ",";
    text += "[" + quoted(left) + "," + quoted(right) + "]";
  }
  return text + "]";
}

std::vector<std::pair<std::string, std::string>> listed_merges(const GgufMetadata& metadata,
                                                               const std::string& where) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (const std::string& text : string_list(metadata, "tokenizer.ggml.merges", where)) {
    const size_t space = text.empty() ? std::string::npos : text.find(' ', 1);
    if (space == std::string::npos)
      throw Error(ErrorKind::failed, "the merge '" + text.substr(0, 80) + "' is not two tokens",
                  where, "the file is damaged");
    merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return merges;
}

// SentencePiece joins, of all neighbours whose concatenation is a piece, those with the highest
// score, and of equal ones the leftmost. As a list of merges: every way to cut every piece into
// two, by falling score of the whole; `begins`: where each score begins, which decides among merges
// whose pieces differ.
std::vector<std::pair<std::string, std::string>> scored_merges(const Vocabulary& vocabulary,
                                                               Json& begins, bool& tied) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t id = 0; id < vocabulary.tokens->size(); ++id) {
    if (vocabulary.kinds[id] == kNormal || vocabulary.kinds[id] == kUserDefined)
      ids.emplace((*vocabulary.tokens)[id], id);
  }
  struct Cut {
    float score;
    size_t whole, left, right;
  };
  std::vector<Cut> cuts;
  for (size_t id = 0; id < vocabulary.tokens->size(); ++id) {
    const std::string_view piece = (*vocabulary.tokens)[id];
    if (vocabulary.kinds[id] != kNormal || piece.size() > kLongestPiece) continue;
    for (size_t at = 1; at < piece.size(); ++at) {
      if ((static_cast<unsigned char>(piece[at]) & 0xc0u) == 0x80u) continue;  // inside a character
      const auto left = ids.find(piece.substr(0, at)), right = ids.find(piece.substr(at));
      if (left != ids.end() && right != ids.end())
        cuts.push_back({vocabulary.scores[id], id, left->second, right->second});
    }
  }
  std::stable_sort(cuts.begin(), cuts.end(),
                   [](const Cut& a, const Cut& b) { return a.score > b.score; });
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(cuts.size());
  begins = Json::array();
  for (size_t i = 0; i < cuts.size(); ++i) {
    const bool same = i > 0 && cuts[i].score == cuts[i - 1].score;
    if (!same) begins.push_back(i);
    tied = tied || (same && cuts[i].whole != cuts[i - 1].whole);
    merges.emplace_back((*vocabulary.tokens)[cuts[i].left], (*vocabulary.tokens)[cuts[i].right]);
  }
  return merges;
}

// The parts of a tokenizer.json that differ between the kinds.
struct Parts {
  Json normalizer, pre_tokenizer, decoder, model;
  std::vector<std::pair<std::string, std::string>> merges;
};

Json bpe_model(const Json& unknown, bool byte_fallback, bool ignore_merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", unknown},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", byte_fallback},
          {"byte_fallback", byte_fallback},
          {"ignore_merges", ignore_merges}};
}

Parts byte_level_parts(const GgufMetadata& metadata, const std::string& where) {
  // llama.cpp heeds add_space_prefix in SentencePiece models only.
  Json style = gguf_pre_tokenizer(metadata.text("tokenizer.ggml.pre", where, "default"), where);
  Parts parts;
  parts.normalizer = style["normalizer"];
  parts.pre_tokenizer = style["pre_tokenizer"];
  parts.decoder = {{"type", "ByteLevel"},
                   {"add_prefix_space", true},
                   {"trim_offsets", true},
                   {"use_regex", true}};
  parts.model = bpe_model(nullptr, false, style["ignore_merges"].get<bool>());
  parts.merges = listed_merges(metadata, where);
  return parts;
}

Parts piece_parts(const GgufMetadata& metadata, const Vocabulary& vocabulary,
                  const std::string& where) {
  const bool prefix = metadata.integer("tokenizer.ggml.add_space_prefix", where, 1) != 0;
  const std::string mark = "\xe2\x96\x81";
  Parts parts;
  Json marks = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}};
  Json steps =
      Json::array({{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}});
  parts.normalizer = marks;
  if (prefix) {
    parts.normalizer = {
        {"type", "Sequence"},
        {"normalizers", Json::array({{{"type", "Prepend"}, {"prepend", mark}}, marks})}};
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  parts.decoder = {{"type", "Sequence"}, {"decoders", steps}};
  const auto unknown = vocabulary.special.find("unknown");
  parts.model =
      bpe_model(unknown == vocabulary.special.end() ? Json(nullptr)
                                                    : Json((*vocabulary.tokens)[unknown->second]),
                true, false);
  Json begins;
  bool tied = false;
  parts.merges = scored_merges(vocabulary, begins, tied);
  // The many files with a score of its own for every piece need no more than the order.
  if (begins.size() < parts.merges.size()) parts.model["equal_merges"] = begins;
  if (tied) parts.model["tied_pieces"] = true;  // no other program's tokenizer.json can say that
  return parts;
}

struct Frame {
  bool bos = false, eos = false;  // put around a text
};

Json post_processor(const Vocabulary& vocabulary, const Frame& frame) {
  if (!frame.bos && !frame.eos) return nullptr;
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto special = [&](Json& list, const char* name, int type) {
    const int64_t id = vocabulary.special.at(name);
    const std::string& text = (*vocabulary.tokens)[id];
    list.push_back({{"SpecialToken", {{"id", text}, {"type_id", type}}}});
    tokens[text] = {{"id", text}, {"ids", Json::array({id})}, {"tokens", Json::array({text})}};
  };
  const auto part = [&](Json& list, const char* name, int type) {
    if (frame.bos) special(list, "bos", type);
    list.push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
    if (frame.eos) special(list, "eos", type);
  };
  part(single, "A", 0);
  part(pair, "A", 0);
  part(pair, "B", 1);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", tokens}};
}

// "{...}" of a JSON object without its braces.
std::string inside(const Json& object) {
  const std::string text = object.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.substr(1, text.size() - 2);
}

std::string tokenizer_text(const Vocabulary& vocabulary, const Parts& parts, const Frame& frame) {
  const Json head = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens(vocabulary)},
                     {"normalizer", parts.normalizer},
                     {"pre_tokenizer", parts.pre_tokenizer},
                     {"post_processor", post_processor(vocabulary, frame)},
                     {"decoder", parts.decoder}};
  return "{" + inside(head) + ",\"model\":{" + inside(parts.model) +
         ",\"vocab\":" + vocab_text(vocabulary) + ",\"merges\":" + merges_text(parts.merges) +
         "}}\n";
}

Json tokenizer_config(const GgufMetadata& metadata, const Vocabulary& vocabulary,
                      const Frame& frame, const std::string& where) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"add_bos_token", frame.bos},
                 {"add_eos_token", frame.eos}};
  const std::pair<const char*, const char*> kNames[] = {{"bos", "bos_token"},
                                                        {"eos", "eos_token"},
                                                        {"unknown", "unk_token"},
                                                        {"padding", "pad_token"}};
  for (const auto& [name, key] : kNames) {
    const auto it = vocabulary.special.find(name);
    if (it != vocabulary.special.end()) config[key] = (*vocabulary.tokens)[it->second];
  }
  const std::string architecture = metadata.text("general.architecture", where, "");
  const int64_t context = metadata.integer(architecture + ".context_length", where, 0);
  if (context > 0) config["model_max_length"] = context;
  config["clean_up_tokenization_spaces"] = false;
  if (metadata.find("tokenizer.chat_template") != nullptr)
    config["chat_template"] = metadata.text("tokenizer.chat_template", where);
  return config;
}

Json generation_config(const Vocabulary& vocabulary) {
  Json config = Json::object();
  if (vocabulary.special.contains("bos")) config["bos_token_id"] = vocabulary.special.at("bos");
  Json ends = Json::array();
  for (const char* name : {"eos", "eot", "eom"}) {
    const auto it = vocabulary.special.find(name);
    if (it != vocabulary.special.end() &&
        std::find(ends.begin(), ends.end(), Json(it->second)) == ends.end())
      ends.push_back(it->second);
  }
  if (!ends.empty()) config["eos_token_id"] = ends.size() == 1 ? ends[0] : ends;
  return config;
}

// True if the token "bos" or "eos" is put around texts. Where the file wants one that it does not
// name, llama.cpp puts token 11 there, whatever that is.
bool stands_around(const GgufMetadata& metadata, const Vocabulary& vocabulary,
                   const std::string& name, bool fallback, const std::string& where) {
  const std::string key = "tokenizer.ggml.add_" + name + "_token";
  if (metadata.integer(key, where, fallback ? 1 : 0) == 0) return false;
  if (vocabulary.special.contains(name)) return true;
  throw Error(ErrorKind::unsupported,
              "texts begin or end with a token that the file does not name: it lacks a valid "
              "'tokenizer.ggml." +
                  name + "_token_id'",
              where, "convert the original again, or set the key " + key + " to false");
}

}  // namespace

std::map<std::string, std::string> gguf_companions(const GgufMetadata& metadata,
                                                   const std::string& where) {
  const std::string kind = metadata.text("tokenizer.ggml.model", where, "none");
  if (kind == "none" || kind == "no_vocab") return {};
  if (kind != "gpt2" && kind != "llama")
    throw Error(ErrorKind::unsupported, "the tokenizer kind '" + kind + "' is not known", where,
                "known: gpt2 (byte-level BPE) and llama (SentencePiece)");
  const bool pieces = kind == "llama";
  const Vocabulary vocabulary = read_vocabulary(metadata, pieces, where);
  const Parts parts =
      pieces ? piece_parts(metadata, vocabulary, where) : byte_level_parts(metadata, where);
  // Where the file does not say, llama.cpp puts BOS before texts of SentencePiece models and of
  // these two.
  const std::string pre = metadata.text("tokenizer.ggml.pre", where, "default");
  const bool begins = pieces || gguf_begins_with_bos(pre);
  const Frame frame = {.bos = stands_around(metadata, vocabulary, "bos", begins, where),
                       .eos = stands_around(metadata, vocabulary, "eos", false, where)};
  return {
      {"tokenizer.json", tokenizer_text(vocabulary, parts, frame)},
      {"tokenizer_config.json", json_text(tokenizer_config(metadata, vocabulary, frame, where))},
      {"generation_config.json", json_text(generation_config(vocabulary))}};
}

}  // namespace qwb
