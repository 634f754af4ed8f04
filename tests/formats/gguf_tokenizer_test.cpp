// Tokenizers in GGUF: scores that tie, names of pre-tokenizers, and what GGUF cannot hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "formats/gguf/tokenizer.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/tokenizer/tokenizer.h"
#include "tests/base/context_helper.h"

namespace qwb {
namespace {

const std::string kPieceMark = "\xe2\x96\x81";

// A SentencePiece vocabulary: <unk>, <s>, </s>, the bytes, and pieces with their scores.
GgufMetadata piece_metadata(const std::vector<std::pair<std::string, float>>& pieces) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> kinds = {2, 3, 3};
  std::vector<float> scores = {0, 0, 0};
  for (int b = 0; b < 256; ++b) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", static_cast<unsigned>(b));
    tokens.emplace_back(text);
    kinds.push_back(6);
    scores.push_back(0);
  }
  for (const auto& [text, score] : pieces) {
    tokens.push_back(text);
    kinds.push_back(1);
    scores.push_back(score);
  }
  GgufMetadata metadata;
  metadata.add("general.architecture", GgufValue::of_string("llama"));
  metadata.add("tokenizer.ggml.model", GgufValue::of_string("llama"));
  metadata.add("tokenizer.ggml.tokens", GgufValue::of_strings(tokens));
  metadata.add("tokenizer.ggml.scores", GgufValue::of_floats(scores));
  metadata.add("tokenizer.ggml.token_type", GgufValue::of_i32s(kinds));
  return metadata;
}

std::vector<std::string> piece_tokens(const GgufMetadata& metadata, const std::string& text) {
  const auto files = gguf_companions(metadata, "test");
  const Tokenizer tokenizer =
      Tokenizer::from_json(files.at("tokenizer.json"), files.at("tokenizer_config.json"), "test");
  std::vector<std::string> tokens;
  for (const int32_t id : tokenizer.encode(text, false)) tokens.push_back(tokenizer.token_of(id));
  return tokens;
}

TEST(GgufTokens, OfEqualScoresTheLeftmostPairIsJoined) {
  using testing::ElementsAre;
  const std::string mark = kPieceMark;
  const GgufMetadata equal = piece_metadata({{mark, -1000},
                                             {"a", -1000},
                                             {"b", -1000},
                                             {"c", -1000},
                                             {"d", -1000},
                                             {"bc", -1000},
                                             {"ab", -1000},
                                             {"cd", -1000}});
  EXPECT_THAT(piece_tokens(equal, "abcd"), ElementsAre(mark, "ab", "cd"));
  EXPECT_THAT(piece_tokens(equal, "bcd"), ElementsAre(mark, "bc", "d"));
  // Long texts go another way through the merges.
  std::string text;
  for (int i = 0; i < 50; ++i) text += "abcd";
  EXPECT_EQ(piece_tokens(equal, text).size(), 101u);
  const GgufMetadata risen = piece_metadata(
      {{mark, -9}, {"a", -9}, {"b", -9}, {"c", -9}, {"d", -9}, {"bc", -1}, {"ab", -2}, {"cd", -2}});
  EXPECT_THAT(piece_tokens(risen, "abcd"), ElementsAre(mark, "a", "bc", "d"));
  // Two ways to make one piece: also the leftmost.
  const GgufMetadata ways = piece_metadata({{mark, -9}, {"a", -9}, {"aa", -1}, {"aaa", -2}});
  EXPECT_THAT(piece_tokens(ways, "aaaaa"), ElementsAre(mark, "aa", "aaa"));
}

// llama.cpp takes <s> where a SentencePiece file names a token beyond its vocabulary, and token 11
// where a byte-level one names none.
TEST(GgufTokens, TextsBeginWithATokenThatTheFileHas) {
  GgufMetadata beyond = piece_metadata({{"a", -1}});
  beyond.add("tokenizer.ggml.bos_token_id", GgufValue::of_u32(100000));
  EXPECT_THAT(gguf_companions(beyond, "test").at("tokenizer_config.json"),
              testing::HasSubstr(R"("bos_token": "<s>")"));
  for (const char* edge : {"bos", "eos"}) {
    GgufMetadata unnamed;
    unnamed.add("general.architecture", GgufValue::of_string("llama"));
    unnamed.add("tokenizer.ggml.model", GgufValue::of_string("gpt2"));
    unnamed.add("tokenizer.ggml.pre", GgufValue::of_string("qwen2"));
    unnamed.add("tokenizer.ggml.tokens", GgufValue::of_strings({"a", "b", "ab"}));
    unnamed.add("tokenizer.ggml.merges", GgufValue::of_strings({"a b"}));
    EXPECT_NO_THROW(gguf_companions(unnamed, "test"));
    unnamed.add(std::string("tokenizer.ggml.add_") + edge + "_token", GgufValue::of_bool(true));
    try {
      gguf_companions(unnamed, "test");
      ADD_FAILURE() << edge;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported);
      EXPECT_THAT(error.what(), testing::HasSubstr(edge));
    }
  }
}

TEST(GgufTokens, TiesAreMarkedForOtherPrograms) {
  const auto text = [](float last) {
    return gguf_companions(piece_metadata({{"a", -1}, {"b", -2}, {"ab", -3}, {"ba", last}}), "test")
        .at("tokenizer.json");
  };
  EXPECT_THAT(text(-3), testing::HasSubstr("\"tied_pieces\":true"));
  EXPECT_THAT(text(-4), testing::Not(testing::HasSubstr("tied_pieces")));
}

TEST(GgufTokens, KnowsThePreTokenizersOfItsArchitectures) {
  for (const char* name : {"default",        "llama3",        "llama-v3",
                           "llama-bpe",      "falcon3",       "pixtral",
                           "midm-2.0",       "lfm2",          "deepseek-llm",
                           "deepseek-coder", "deepseek-v3",   "deepseek-r1-qwen",
                           "falcon",         "mpt",           "starcoder",
                           "gpt-2",          "phi-2",         "refact",
                           "command-r",      "qwen2",         "qwen35",
                           "stablelm2",      "olmo",          "dbrx",
                           "smaug-bpe",      "poro-chat",     "chatglm-bpe",
                           "glm4",           "viking",        "jais",
                           "jais-2",         "tekken",        "smollm",
                           "codeshell",      "bloom",         "gpt3-finnish",
                           "exaone",         "exaone4",       "exaone-moe",
                           "minerva-7b",     "megrez",        "gpt-4o",
                           "llama4",         "kanana2",       "superbpe",
                           "trillion",       "bailingmoe",    "seed-coder",
                           "hunyuan",        "hunyuan-dense", "minicpm5",
                           "youtu",          "grok-2",        "tiny_aya",
                           "mellum",         "a.x-4.0",       "modern-bert",
                           "laguna",         "ufakzeka",      "spark2_5"}) {
    const Json style = gguf_pre_tokenizer(name, "test");
    Json file = parse_json(
        R"({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})", "test");
    file["pre_tokenizer"] = style["pre_tokenizer"];
    file["normalizer"] = style["normalizer"];
    EXPECT_NO_THROW(Tokenizer::from_json(file.dump(), "", name)) << name;  // every pattern is read
    file["model"]["ignore_merges"] = style["ignore_merges"];
    EXPECT_NO_THROW(gguf_pre_tokenizer_name(file, name)) << name;
  }
  for (const char* name :
       {"kimi-k2", "gemma4", "sarvam-moe", "whitespace", "afmoe", "chameleon", "nonsense"}) {
    try {
      gguf_pre_tokenizer(name, "test");
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported);
      EXPECT_THAT(error.what(), testing::HasSubstr(name));
    }
  }
  EXPECT_TRUE(gguf_begins_with_bos("llama-bpe"));
  EXPECT_TRUE(gguf_begins_with_bos("falcon3"));
  EXPECT_TRUE(gguf_begins_with_bos("tekken"));
  EXPECT_FALSE(gguf_begins_with_bos("qwen2"));
  EXPECT_FALSE(gguf_begins_with_bos("llama4"));
}

// Writing: a byte-level tokenizer in a folder, changed, and the notes and keys it gives.
struct Written {
  std::string notes;
  GgufMetadata metadata;
};

class NotesOfExport : public Progress {
 public:
  void note(const std::string& text) override { all += text + "\n"; }
  std::string all;
};

Json plain_tokenizer() {
  return parse_json(R"({"version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 2, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
                     {"id": 3, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "normalizer": null, "post_processor": null, "decoder": {"type": "ByteLevel"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})",
                    "test");
}

Written write_tokenizer(const Json& tokenizer, const Json& config) {
  const Path folder =
      Path(testing::TempDir()) / ("qwb_gguf_tokenizer_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  write_file_atomically(folder / "tokenizer.json", as_bytes(json_text(tokenizer)));
  write_file_atomically(folder / "tokenizer_config.json", as_bytes(json_text(config)));
  OpenModel open;
  open.folder = folder;
  open.config = Json::object();
  NotesOfExport notes;
  Written result;
  add_gguf_tokenizer(open, 8, result.metadata, context_telling(notes));
  result.notes = notes.all;
  std::filesystem::remove_all(folder);
  return result;
}

Json frame_of_pieces(const std::vector<std::string>& pieces) {
  Json single = Json::array();
  for (const std::string& piece : pieces) {
    single.push_back(piece == "A" ? Json{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}
                                  : Json{{"SpecialToken", {{"id", piece}, {"type_id", 0}}}});
  }
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"special_tokens",
           {{"<s>", {{"id", "<s>"}, {"ids", {2}}, {"tokens", {"<s>"}}}},
            {"</s>", {{"id", "</s>"}, {"ids", {3}}, {"tokens", {"</s>"}}}}}}};
}

const Json kConfig = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};

TEST(GgufTokens, TellsWhatItCannotHold) {
  EXPECT_EQ(write_tokenizer(plain_tokenizer(), kConfig).notes, "");
  for (const char* flag : {"lstrip", "rstrip", "single_word", "normalized"}) {
    Json tokenizer = plain_tokenizer();
    if (flag == std::string("normalized")) tokenizer["normalizer"] = {{"type", "NFC"}};
    tokenizer["added_tokens"].push_back(
        {{"id", 4}, {"content", "<m>"}, {"normalized", false}, {"special", false}});
    tokenizer["added_tokens"].back()[flag] = true;
    EXPECT_THAT(write_tokenizer(tokenizer, kConfig).notes,
                testing::AllOf(testing::HasSubstr(flag), testing::HasSubstr("<m>")));
  }
  Json spaced = plain_tokenizer();
  spaced["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_THAT(write_tokenizer(spaced, kConfig).notes, testing::HasSubstr("add_prefix_space"));
  Json normal = plain_tokenizer();
  normal["normalizer"] = {{"type", "NFC"}};
  EXPECT_THAT(write_tokenizer(normal, kConfig).notes, testing::HasSubstr("NFC"));
  Json apart = kConfig;
  apart["split_special_tokens"] = true;
  EXPECT_THAT(write_tokenizer(plain_tokenizer(), apart).notes,
              testing::HasSubstr("split_special_tokens"));
}

// transformers builds these classes with parts of their own, whatever tokenizer.json holds.
TEST(GgufTokens, WritesThePartsOfTheTokenizerClass) {
  Json config = kConfig;
  const auto pre = [](const Written& written) {
    return written.metadata.find("tokenizer.ggml.pre")->text("test");
  };
  EXPECT_EQ(pre(write_tokenizer(plain_tokenizer(), config)), "gpt-2");
  config["tokenizer_class"] = "Qwen2TokenizerFast";
  EXPECT_EQ(pre(write_tokenizer(plain_tokenizer(), config)), "qwen2");
  config["tokenizer_class"] = "GPT2Tokenizer";
  config["add_prefix_space"] = true;
  const Written written = write_tokenizer(plain_tokenizer(), config);
  EXPECT_EQ(pre(written), "gpt-2");
  EXPECT_THAT(written.notes, testing::HasSubstr("add_prefix_space"));
}

TEST(GgufTokens, WritesBosBeforeAndEosBehindOnly) {
  const std::pair<std::vector<std::string>, int> kCases[] = {{{"A"}, 0},
                                                             {{"<s>", "A"}, 1},
                                                             {{"A", "</s>"}, 2},
                                                             {{"<s>", "A", "</s>"}, 3},
                                                             {{"</s>", "A"}, 4},
                                                             {{"A", "<s>"}, 4},
                                                             {{"<s>", "<s>", "A"}, 4},
                                                             {{"<s>", "A", "</s>", "</s>"}, 5}};
  for (const auto& [pieces, expected] : kCases) {
    Json tokenizer = plain_tokenizer();
    tokenizer["post_processor"] = frame_of_pieces(pieces);
    const Written written = write_tokenizer(tokenizer, kConfig);
    EXPECT_EQ(written.metadata.integer("tokenizer.ggml.add_bos_token", "test"), expected & 1)
        << pieces[0];
    EXPECT_EQ(written.metadata.integer("tokenizer.ggml.add_eos_token", "test"), expected >> 1 & 1)
        << pieces[0];
    EXPECT_EQ(written.notes.find("special tokens") != std::string::npos, expected >= 4)
        << pieces[0];
  }
}

TEST(GgufTokens, WritesTheIdsThatTokenizersGives) {
  Json tokenizer = plain_tokenizer();
  tokenizer["added_tokens"].push_back(
      {{"id", 7}, {"content", "<far>"}, {"normalized", false}, {"special", false}});
  const Written written = write_tokenizer(tokenizer, kConfig);
  EXPECT_EQ(written.metadata.find("tokenizer.ggml.tokens")->strings[4], "<far>");
}

}  // namespace
}  // namespace qwb
