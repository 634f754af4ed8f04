#include "lib/tokenizer/tokenizer_class.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/error.h"
#include "lib/tokenizer/special_tokens.h"

namespace qwb::tokenizer {
namespace {

constexpr const char* kSpaceMark = "\xe2\x96\x81";  // U+2581
constexpr std::string_view kLlama = "LlamaTokenizer";
constexpr std::string_view kGpt2 = "GPT2Tokenizer";
constexpr std::string_view kNeox = "GPTNeoXTokenizer";
constexpr std::string_view kQwen2 = "Qwen2Tokenizer";
constexpr std::string_view kQwen35 = "Qwen3_5Tokenizer";
constexpr std::string_view kGemma = "GemmaTokenizer";
constexpr std::string_view kCodeLlama = "CodeLlamaTokenizer";

// Classes with parts of their own that are not known here, and those that do not read
// tokenizer.json at all.
constexpr auto kOtherClasses = std::to_array<std::string_view>({"AlbertTokenizer",
                                                                "BarthezTokenizer",
                                                                "BartTokenizer",
                                                                "BartphoTokenizer",
                                                                "BertGenerationTokenizer",
                                                                "BertJapaneseTokenizer",
                                                                "BertTokenizer",
                                                                "BertTokenizerLegacy",
                                                                "BertweetTokenizer",
                                                                "BigBirdTokenizer",
                                                                "BioGptTokenizer",
                                                                "BlenderbotSmallTokenizer",
                                                                "BlenderbotTokenizer",
                                                                "ByT5Tokenizer",
                                                                "CLIPTokenizer",
                                                                "CTRLTokenizer",
                                                                "CamembertTokenizer",
                                                                "CanineTokenizer",
                                                                "CharacterTokenizer",
                                                                "ClvpTokenizer",
                                                                "CodeGenTokenizer",
                                                                "CohereTokenizer",
                                                                "CpmAntTokenizer",
                                                                "CpmTokenizer",
                                                                "DPRContextEncoderTokenizer",
                                                                "DPRQuestionEncoderTokenizer",
                                                                "DPRReaderTokenizer",
                                                                "DebertaTokenizer",
                                                                "DebertaV2Tokenizer",
                                                                "DiaTokenizer",
                                                                "DistilBertTokenizer",
                                                                "EsmTokenizer",
                                                                "EsmcTokenizer",
                                                                "FSMTTokenizer",
                                                                "FastSpeech2ConformerTokenizer",
                                                                "FlaubertTokenizer",
                                                                "FunnelTokenizer",
                                                                "GPTNeoXJapaneseTokenizer",
                                                                "GPTSw3Tokenizer",
                                                                "HerbertTokenizer",
                                                                "LEDTokenizer",
                                                                "LasrTokenizer",
                                                                "LayoutLMv2Tokenizer",
                                                                "LayoutLMv3Tokenizer",
                                                                "LayoutXLMTokenizer",
                                                                "LukeTokenizer",
                                                                "LxmertTokenizer",
                                                                "M2M100Tokenizer",
                                                                "MBart50Tokenizer",
                                                                "MBartTokenizer",
                                                                "MLukeTokenizer",
                                                                "MPNetTokenizer",
                                                                "MarianTokenizer",
                                                                "MarkupLMTokenizer",
                                                                "MgpstrTokenizer",
                                                                "MobileBertTokenizer",
                                                                "MvpTokenizer",
                                                                "MyT5Tokenizer",
                                                                "NllbTokenizer",
                                                                "NougatTokenizer",
                                                                "OpenAIGPTTokenizer",
                                                                "PLBartTokenizer",
                                                                "PegasusTokenizer",
                                                                "PerceiverTokenizer",
                                                                "PhobertTokenizer",
                                                                "Pop2PianoTokenizer",
                                                                "ProphetNetTokenizer",
                                                                "RagTokenizer",
                                                                "ReformerTokenizer",
                                                                "RemBertTokenizer",
                                                                "RoCBertTokenizer",
                                                                "RoFormerTokenizer",
                                                                "RobertaTokenizer",
                                                                "SeamlessM4TTokenizer",
                                                                "Siglip2Tokenizer",
                                                                "SiglipTokenizer",
                                                                "Speech2TextTokenizer",
                                                                "SpeechT5Tokenizer",
                                                                "SplinterTokenizer",
                                                                "SqueezeBertTokenizer",
                                                                "T5Tokenizer",
                                                                "TapasTokenizer",
                                                                "Tipsv2Tokenizer",
                                                                "UdopTokenizer",
                                                                "VideoPrismTokenizer",
                                                                "VitsTokenizer",
                                                                "Wav2Vec2CTCTokenizer",
                                                                "Wav2Vec2PhonemeCTCTokenizer",
                                                                "WhisperTokenizer",
                                                                "XGLMTokenizer",
                                                                "XLMRobertaTokenizer",
                                                                "XLMTokenizer",
                                                                "XLNetTokenizer"});

// The class that belongs to a type of model; empty: tokenizer.json as it stands.
struct ModelClass {
  std::string_view model_type, name;
  bool overrides = false;  // whatever tokenizer_config.json says
};
constexpr auto kModelClasses = std::to_array<ModelClass>({{"gpt2", kGpt2},
                                                          {"qwen2", kQwen2, true},
                                                          {"qwen3", kQwen2},
                                                          {"gemma2", kGemma},
                                                          {"gptj", kGpt2},
                                                          {"opt", kGpt2},
                                                          {"gpt_neox", kNeox},
                                                          {"mpt", kNeox},
                                                          {"olmoe", kNeox},
                                                          {"qwen2_moe", kQwen2},
                                                          {"qwen3_moe", kQwen2},
                                                          {"mistral", {}, true},
                                                          {"mixtral", {}, true}});

std::string text_of(const Json& json, const char* key) {
  return json.is_object() && json.contains(key) && json[key].is_string()
             ? json[key].get<std::string>()
             : std::string();
}

std::string without_fast(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

bool mentions_byte_level(const Json& json) {
  if (json.is_string()) return json == "ByteLevel";
  if (!json.is_structured()) return false;
  return std::ranges::any_of(json, mentions_byte_level);
}

// Whether a class in Python files of the repository is named, which transformers runs only if told
// to trust it. An old spelling of auto_map is a list.
bool has_own_class(const Json& config) {
  if (!json_has(config, "auto_map")) return false;
  const Json& map = config["auto_map"];
  return map.is_array() || json_has(map, "AutoTokenizer");
}

// Empty for those that use tokenizer.json as it stands.
std::string class_name(const TokenizerFile& file, const Json& config, const Json& model) {
  std::string named = without_fast(text_of(config, "tokenizer_class"));
  if (named.empty()) named = without_fast(text_of(model, "tokenizer_class"));
  const std::string type = text_of(model, "model_type");
  const auto* known = std::ranges::find(kModelClasses, type, &ModelClass::model_type);
  const bool listed = known != kModelClasses.end();
  const bool own_class = has_own_class(config);
  if (listed && known->overrides && !own_class) return std::string(known->name);
  // Llama-3 style files are often said to be LlamaTokenizer's.
  const auto byte_level = [&](const char* part) {
    return file.root.contains(part) && mentions_byte_level(file.root[part]);
  };
  if (named == kLlama && !own_class &&
      (byte_level("pre_tokenizer") || byte_level("decoder") || byte_level("normalizer") ||
       byte_level("post_processor")))
    return {};
  if (named.empty()) return listed ? std::string(known->name) : std::string();
  return named;
}

Json metaspace(const Json& config, bool first_only) {
  const bool prefix = !json_has(config, "add_prefix_space") || config["add_prefix_space"] != false;
  return {{"type", "Metaspace"},
          {"replacement", kSpaceMark},
          {"prepend_scheme", !prefix      ? "never"
                             : first_only ? "first"
                                          : "always"},
          {"split", false}};
}

Json spaced_decoder(bool strip) {
  Json steps = {{{"type", "Replace"}, {"pattern", {{"String", kSpaceMark}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (strip) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

Json byte_level(const Json& config, bool use_regex) {
  const bool prefix = json_has(config, "add_prefix_space") && config["add_prefix_space"] == true;
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

// Qwen 3.5 counts marks as letters.
std::string qwen_pattern(bool with_marks) {
  const std::string letters = with_marks ? "[\\p{L}\\p{M}]+" : "\\p{L}+";
  const std::string others = with_marks ? "[^\\s\\p{L}\\p{M}\\p{N}]+" : "[^\\s\\p{L}\\p{N}]+";
  return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?" + letters + "|\\p{N}| ?" + others +
         "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
}

// What a class brings along.
struct Parts {
  Json normalizer, pre_tokenizer, decoder;
  Json unk_token;                                          // of the model
  bool spaced = false;                                     // fuse_unk and byte_fallback
  std::vector<std::pair<const char*, const char*>> names;  // of special tokens, where none is given
};

Parts llama_parts(const Json& config) {
  const bool legacy = json_has(config, "legacy") && config["legacy"] == true;
  Parts parts;
  parts.pre_tokenizer = metaspace(config, !legacy);
  parts.decoder = spaced_decoder(parts.pre_tokenizer["prepend_scheme"] != "never");
  parts.spaced = true;
  parts.names = {{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}};
  return parts;
}

Parts gpt2_parts(const Json& config) {
  Parts parts;
  parts.pre_tokenizer = byte_level(config, true);
  parts.decoder = {{"type", "ByteLevel"}};
  parts.names = {{"unk_token", "<|endoftext|>"},
                 {"bos_token", "<|endoftext|>"},
                 {"eos_token", "<|endoftext|>"}};
  return parts;
}

// Its post-processor is made of add_bos_token and add_eos_token, which do not count where there is
// a tokenizer.json: none.
Parts neox_parts(const Json& config) {
  Parts parts = gpt2_parts(config);
  parts.normalizer = {{"type", "NFC"}};
  parts.names.push_back({"pad_token", "<|padding|>"});
  return parts;
}

Parts qwen_parts(const Json& config, bool with_marks) {
  Parts parts;
  parts.normalizer = {{"type", "NFC"}};
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", qwen_pattern(with_marks)}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  parts.pre_tokenizer = {{"type", "Sequence"},
                         {"pretokenizers", Json::array({split, byte_level(config, false)})}};
  parts.decoder = {{"type", "ByteLevel"}};
  parts.names = {{"unk_token", "<|endoftext|>"},
                 {"eos_token", "<|endoftext|>"},
                 {"pad_token", "<|endoftext|>"}};
  return parts;
}

Parts gemma_parts(const Json& config, const std::string& where) {
  Parts parts;
  parts.normalizer = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMark}};
  parts.pre_tokenizer = {{"type", "Split"},
                         {"pattern", {{"String", " "}}},
                         {"behavior", "MergedWithPrevious"},
                         {"invert", false}};
  parts.decoder = spaced_decoder(false);
  parts.spaced = true;
  parts.names = {{"unk_token", "<unk>"},
                 {"bos_token", "<bos>"},
                 {"eos_token", "<eos>"},
                 {"pad_token", "<pad>"},
                 {"mask_token", "<mask>"}};
  parts.unk_token = named_token(config, "unk_token", where).value_or("<unk>");
  return parts;
}

// As Llama-2's converter wrote them.
bool is_llama2(const Json& root) {
  static const Json normalizer = {
      {"type", "Sequence"},
      {"normalizers",
       Json::array(
           {{{"type", "Prepend"}, {"prepend", kSpaceMark}},
            {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMark}}})}};
  return json_has(root, "normalizer") && root["normalizer"] == normalizer &&
         !json_has(root, "pre_tokenizer");
}

bool keeps_digits_apart(const Json& root) {
  if (json_has(root, "normalizer") || !json_has(root, "pre_tokenizer")) return false;
  const Json& steps = root["pre_tokenizer"];
  if (text_of(steps, "type") != "Sequence" || !json_has(steps, "pretokenizers")) return false;
  const Json& list = steps["pretokenizers"];
  return list.is_array() && list.size() == 2 && text_of(list[0], "type") == "Digits" &&
         text_of(list[1], "type") == "ByteLevel" &&
         list[1].value("add_prefix_space", true) == false;
}

void put_names(Json& config, const Parts& parts) {
  if (config.is_null()) config = Json::object();
  for (const auto& [key, name] : parts.names) {
    if (!config.contains(key)) config[key] = name;
  }
}

void put_parts(TokenizerFile& file, Json& config, const Parts& parts) {
  Json& root = file.root;
  root["normalizer"] = parts.normalizer;
  root["pre_tokenizer"] = parts.pre_tokenizer;
  root["decoder"] = parts.decoder;
  Json& model = root["model"];
  model["dropout"] = nullptr;
  model["unk_token"] = parts.unk_token;
  model["continuing_subword_prefix"] = "";
  model["end_of_word_suffix"] = "";
  model["fuse_unk"] = parts.spaced;
  model["byte_fallback"] = parts.spaced;
  model["ignore_merges"] = false;
  // The list of added tokens in tokenizer.json counts only where the other files have none.
  if (json_has(config, "added_tokens_decoder")) root["added_tokens"] = Json::array();
  put_names(config, parts);
}

}  // namespace

std::string apply_tokenizer_class(TokenizerFile& file, Json& config, const Json& model,
                                  const std::string& where) {
  const std::string name = class_name(file, config, model);
  if (std::ranges::binary_search(kOtherClasses, name)) {
    throw Error(ErrorKind::unsupported,
                "transformers builds a " + name +
                    " with parts of its own in place of those of tokenizer.json, which are not "
                    "known here",
                where,
                "if tokenizer.json is right as it stands, set \"tokenizer_class\": "
                "\"PreTrainedTokenizerFast\" in tokenizer_config.json");
  }
  const bool llama = name == kLlama || name == kCodeLlama;
  const bool gpt2 = name == kGpt2;
  const bool neox = name == kNeox;
  const std::string note =
      has_own_class(config)
          ? "tokenizer_config.json names a tokenizer class in Python files beside it, which is "
            "not run; the ids are those of transformers without trust_remote_code"
          : "";
  if (!llama && !gpt2 && !neox && name != kQwen2 && name != kQwen35 && name != kGemma) return note;
  const bool prefix_given = json_has(config, "add_prefix_space");
  if (llama && is_llama2(file.root) && !(prefix_given && config["add_prefix_space"] == false)) {
    put_names(config, llama_parts(config));
    return note;
  }
  if (gpt2 && keeps_digits_apart(file.root) &&
      !(prefix_given && config["add_prefix_space"] == true)) {
    return "the tokenizer keeps digits apart, as its tokenizer.json says; transformers 5 does not, "
           "because tokenizer_config.json names the class GPT2Tokenizer";
  }
  if (text_of(file.root["model"], "type") != "BPE" && file.scored)
    throw Error(ErrorKind::unsupported,
                "tokenizer_config.json names the class " + name +
                    ", but tokenizer.json holds another model than BPE",
                where, "set \"tokenizer_class\": \"PreTrainedTokenizerFast\" if that is right");
  if (name == kCodeLlama) {
    throw Error(ErrorKind::unsupported,
                "transformers builds a CodeLlamaTokenizer in place of this tokenizer.json, which "
                "is not of Llama-2's kind",
                where, "set \"tokenizer_class\": \"PreTrainedTokenizerFast\" if it is right");
  }
  const Parts parts = llama            ? llama_parts(config)
                      : gpt2           ? gpt2_parts(config)
                      : neox           ? neox_parts(config)
                      : name == kGemma ? gemma_parts(config, where)
                                       : qwen_parts(config, name == kQwen35);
  put_parts(file, config, parts);
  if (neox) file.root["post_processor"] = nullptr;
  return note;
}

void need_byte_level_class(const Json& config, const Json& model, const std::string& where) {
  const std::string name = class_name({}, config, model);
  if (name == kGpt2 || name == kQwen2 || name == kQwen35) return;
  throw Error(
      ErrorKind::unsupported,
      "vocab.json and merges.txt of " + (name.empty() ? "an unnamed class" : "the class " + name),
      where,
      "save a tokenizer.json with transformers: "
      "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)");
}

}  // namespace qwb::tokenizer
