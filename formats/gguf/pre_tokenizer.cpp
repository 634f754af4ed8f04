// Pre-tokenizers by name. The patterns are those of llama.cpp (src/llama-vocab.cpp) in the spelling
// of the tokenizer.json files that they were made for.
#include <algorithm>
#include <array>
#include <vector>

#include "formats/gguf/tokenizer.h"
#include "lib/tokenizer/scanner.h"

namespace qwb {
namespace {

using tokenizer::kGpt2Pattern;
using tokenizer::kLlama3Pattern;
using tokenizer::kQwen2Pattern;

constexpr std::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4oPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view kDeepSeekWords = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr std::string_view kDeepSeek3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kNoPunctuation = R"( ?[^(\s|.,!?…。，、।۔،)]+)";

// Cuts the text in turn by each of its patterns. `digits`: a Digits step comes first.
struct Style {
  std::vector<std::string_view> patterns;
  bool digits = false;
  bool ignore_merges = false;
  bool nfc = false;
  std::vector<std::string_view> names;  // the first is written
};

const std::vector<Style> kStyles = {
    {.patterns = {kGpt2Pattern},
     .names = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat",
               "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert",
               "roberta-bpe", "exaone4", "jina-v1-en", "jina-v2-code"}},
    {.patterns = {kGpt2Pattern},
     .digits = true,
     .names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b",
               "mellum2"}},
    {.patterns = {kLlama3Pattern},
     .ignore_merges = true,
     .names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
               "lfm2", "jina-v5-nano"}},
    {.patterns = {kLlama3Pattern}, .names = {"dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "glm5"}},
    {.patterns = {kQwen2Pattern},
     .nfc = true,
     .names = {"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2"}},
    {.patterns = {kQwen2Pattern}, .names = {"stablelm2", "hunyuan", "solar-open", "megrez"}},
    {.patterns = {kTekkenPattern}, .ignore_merges = true, .names = {"tekken"}},
    {.patterns = {kGpt4oPattern}, .names = {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}},
    {.patterns = {R"(\d{1,3}(?=(?:\d{3})*\b))", kGpt4oPattern},
     .names = {"tiny_aya", "cohere2moe"}},
    {.patterns = {R"([\r\n])", kDeepSeekLetters, kDeepSeekWords, R"(\s+$)",
                  R"([一-龥ࠀ-一가-퟿]+)", R"(\p{N}+)"},
     .names = {"deepseek-llm"}},
    {.patterns = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", R"([一-龥ࠀ-一가-퟿]+)",
                  R"(\p{N})"},
     .names = {"deepseek-coder"}},
    {.patterns = {R"(\p{N}{1,3})", R"([一-龥぀-ゟ゠-ヿ]+)", kDeepSeek3Words},
     .names = {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"}},
    {.patterns = {kNoPunctuation, R"(\p{N})"}, .names = {"viking"}},
    {.patterns = {kNoPunctuation}, .names = {"poro-chat", "bloom", "gpt3-finnish"}},
    {.patterns =
         {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     .names = {"seed-coder"}},
    {.patterns =
         {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})"},
     .names = {"jais-2"}},
    {.patterns =
         {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     .names = {"qwen35"}},
    {.patterns =
         {R"('(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"},
     .names = {"bailingmoe", "bailingmoe2", "llada-moe"}},
    {.patterns =
         {R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     .names = {"ufakzeka"}},
    {.patterns =
         {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     .names = {"grok-2"}},
    {.patterns =
         {R"(\p{N}{1,3})", R"([一-龥぀-ゟ゠-ヿ]+)",
          R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)",
          R"(\p{N})"},
     .names = {"spark2_5"}},
    {.patterns =
         {R"([가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+)",
          R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     .ignore_merges = true,
     .names = {"youtu"}},
    {.patterns =
         {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"},
     .names = {"exaone-moe"}},
    {.patterns =
         {R"(\p{N}{1,3})",
          R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     .ignore_merges = true,
     .names = {"minicpm5"}},
    {.patterns = {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"}, .names = {"superbpe"}},
    {.patterns =
         {R"([^\n]+|[\n]+)",
          R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     .names = {"laguna"}},
    {.patterns = {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Pattern, R"([0-9][0-9][0-9])"},
     .names = {"falcon"}},
    {.patterns = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", R"([0-9][0-9][0-9])"},
     .names = {"default"}}};

Json byte_level(bool words) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", words}};
}

Json sequence(const Style& style) {
  const bool plain = style.patterns.size() == 1 && style.patterns[0] == kGpt2Pattern;
  if (plain && !style.digits) return byte_level(true);
  Json steps = Json::array();
  if (style.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  for (const std::string_view pattern : style.patterns) {
    if (plain) break;
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(byte_level(plain));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

// What a pre_tokenizer does, in the terms of Style.
struct Found {
  std::vector<std::string> patterns;
  bool digits = false;
  bool known = true;
};

// The pattern's text; the spellings of one digit are the same.
std::string pattern_of(const Json& split) {
  if (!split.contains("pattern") || !split["pattern"].is_object() ||
      !split["pattern"].contains("Regex"))
    return {};
  std::string text = split["pattern"]["Regex"].get<std::string>();
  constexpr std::string_view kOneDigit = R"(\p{N}{1}|)";
  if (const size_t at = text.find(kOneDigit); at != std::string::npos)
    text.replace(at, kOneDigit.size(), R"(\p{N}|)");
  return text;
}

void look_at(const Json& step, Found& found, const std::string& where) {
  const std::string type = json_string(step, "type", where);
  if (type == "Sequence") {
    for (const Json& inner : step.at("pretokenizers")) look_at(inner, found, where);
  } else if (type == "ByteLevel") {
    if (json_bool(step, "use_regex", where, true)) found.patterns.emplace_back(kGpt2Pattern);
  } else if (type == "Digits" && json_bool(step, "individual_digits", where, false) &&
             found.patterns.empty()) {
    found.digits = true;
  } else if (type == "Split") {
    const std::string behavior = json_string(step, "behavior", where);
    const std::string pattern = pattern_of(step);
    const bool inverted = json_bool(step, "invert", where, false);
    found.known = found.known && !pattern.empty() &&
                  (behavior == "Isolated" || (behavior == "Removed" && inverted));
    if (pattern == R"(\p{N})" && found.patterns.empty()) {
      found.digits = true;
    } else {
      found.patterns.push_back(pattern);
    }
  } else {
    found.known = false;
  }
}

bool does_same(const Style& style, const Found& found, bool ignore_merges, bool nfc) {
  return found.known && style.digits == found.digits && style.nfc == nfc &&
         style.ignore_merges == ignore_merges &&
         std::equal(style.patterns.begin(), style.patterns.end(), found.patterns.begin(),
                    found.patterns.end());
}

}  // namespace

bool gguf_begins_with_bos(const std::string& name) {
  if (name == "tekken") return true;
  for (const Style& style : kStyles) {
    if (style.names[0] == "llama-bpe")
      return std::find(style.names.begin(), style.names.end(), name) != style.names.end();
  }
  return false;
}

Json gguf_pre_tokenizer(const std::string& name, const std::string& where) {
  for (const Style& style : kStyles) {
    if (std::find(style.names.begin(), style.names.end(), name) == style.names.end()) continue;
    return {{"pre_tokenizer", sequence(style)},
            {"normalizer", style.nfc ? Json{{"type", "NFC"}} : Json(nullptr)},
            {"ignore_merges", style.ignore_merges}};
  }
  std::string known;
  for (const Style& style : kStyles)
    known += (known.empty() ? "" : ", ") + std::string(style.names[0]);
  throw Error(ErrorKind::unsupported, "the pre-tokenizer '" + name + "' is not known", where,
              "known are " + known + " and their kin");
}

std::string gguf_pre_tokenizer_name(const Json& tokenizer, const std::string& where) {
  const Json step =
      tokenizer.contains("pre_tokenizer") ? tokenizer["pre_tokenizer"] : Json(nullptr);
  const Json normalizer =
      tokenizer.contains("normalizer") ? tokenizer["normalizer"] : Json(nullptr);
  Found found;
  if (!step.is_null()) look_at(step, found, where);
  const bool nfc = normalizer.is_object() && json_string(normalizer, "type", where) == "NFC";
  const bool merges = json_bool(tokenizer.at("model"), "ignore_merges", where, false);
  for (const bool normalized : {nfc, !nfc}) {  // llama.cpp does not normalize either way
    for (const Style& style : kStyles) {
      if (!does_same(style, found, merges, normalized)) continue;
      if (normalizer.is_null() || nfc) return std::string(style.names[0]);
    }
  }
  throw Error(ErrorKind::unsupported,
              "llama.cpp has no pre-tokenizer that cuts texts like this model's", where,
              "its pre_tokenizer is " + json_canonical(step).substr(0, 300));
}

}  // namespace qwb
