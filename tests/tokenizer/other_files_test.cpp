// Folders without a tokenizer.json: tokenizer.model of SentencePiece, vocab.json with merges.txt.
// The ids are those of sentencepiece and transformers (tests/golden/make_sentencepiece.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/tokenizer/sentencepiece_file.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const Path kModels = Path(QWB_SOURCE_DIR) / "tests/golden/tokenizer/sentencepiece";

// A copy of one of these folders that can be changed.
class Copied {
 public:
  explicit Copied(const std::string& name) {
    std::string pattern = (fs::temp_directory_path() / "qwb-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw system_error("cannot create", pattern, errno);
    path_ = pattern;
    fs::copy(kModels / name, path_, fs::copy_options::recursive);
  }
  ~Copied() { fs::remove_all(path_); }
  Copied(const Copied&) = delete;
  Copied& operator=(const Copied&) = delete;
  void write(const char* name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary | std::ios::trunc) << text;
  }
  const Path& path() const { return path_; }

 private:
  Path path_;
};

void expect_refused(const Path& folder, ErrorKind kind, const std::string& said) {
  try {
    Tokenizer::load(folder);
    ADD_FAILURE() << "loaded; expected: " << said;
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(said));
  }
}

class OtherFiles : public testing::TestWithParam<std::string> {};

TEST_P(OtherFiles, GiveTheIdsOfTheirLibraries) {
  const Json golden = parse_json(read_text(kModels / "ids.json"), "ids.json");
  const Tokenizer tokenizer = Tokenizer::load(kModels / GetParam());
  const Json& ids = golden["ids"][GetParam()];
  for (size_t i = 0; i < golden["texts"].size(); ++i) {
    const auto text = golden["texts"][i].get<std::string>();
    EXPECT_EQ(Json(tokenizer.encode(text, true)), ids[i]) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Folders, OtherFiles,
                         testing::Values("bpe", "bpe_user", "bpe_first", "unigram", "unigram_user",
                                         "merges"),
                         [](const auto& case_) { return case_.param; });

TEST(SentencePiece, TextsComeBack) {
  const Tokenizer tokenizer = Tokenizer::load(kModels / "bpe");
  for (const std::string text : {"Hello world", "  two  spaces ", "日本語 🙂 é"})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, true), true), text);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
}

TEST(SentencePiece, ClassesWithPartsOfTheirOwnAreRefused) {
  const Copied folder("bpe");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "T5Tokenizer"})");
  expect_refused(folder.path(), ErrorKind::unsupported, "T5Tokenizer");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizerFast"})");
  EXPECT_NO_THROW(Tokenizer::load(folder.path()));
  const Copied merges("merges");
  merges.write("tokenizer_config.json", "{}");
  merges.write("config.json", R"({"model_type": "llama"})");
  expect_refused(merges.path(), ErrorKind::unsupported, "an unnamed class");
}

TEST(SentencePiece, OtherFilesOfThatNameAreRefused) {
  const Copied folder("bpe");
  folder.write("tokenizer.model", "IQ== 0\nIg== 1\n");  // tiktoken's
  expect_refused(folder.path(), ErrorKind::failed, "not a SentencePiece model");
  // model_type 3 (words) in the trainer's settings, behind one piece.
  folder.write("tokenizer.model", std::string("\x0a\x03\x0a\x01"
                                              "a\x12\x02\x18\x03",
                                              9));
  expect_refused(folder.path(), ErrorKind::unsupported, "words or characters");
}

// A field of a protocol buffer: text, number.
std::string field(int number, const std::string& text) {
  return std::string(1, static_cast<char>(number << 3 | 2)) +
         std::string(1, static_cast<char>(text.size())) + text;
}
std::string field(int number, int value) {
  return std::string(1, static_cast<char>(number << 3)) + std::string(1, static_cast<char>(value));
}
std::string piece(const std::string& text, int type, float score = 0) {
  std::string bits(4, '\0');
  store(bits.data(), score);
  return field(1, field(1, text) + "\x15" + bits + field(3, type));
}

TEST(SentencePiece, HostileModelsAreRefused) {
  const std::string unknown = piece("<unk>", 2), bpe = field(2, field(3, 2));
  const auto parse = [](const std::string& bytes) {
    return tokenizer::parse_sentencepiece(bytes, "model");
  };
  const auto model = parse(piece("a", 1) + unknown + bpe + field(9, "an extension"));
  EXPECT_EQ(model.unk_id, 1);
  EXPECT_EQ(model.unk_text, "<unk>");
  const std::string endless(10, '\xff');
  const struct {
    ErrorKind kind;
    const char* said;
    std::string bytes;
  } cases[] = {
      // A sort by scores that are not numbers has no end.
      {ErrorKind::failed, "no number for a score", unknown + piece("a", 1, NAN)},
      {ErrorKind::failed, "no number for a score", unknown + piece("a", 1, -INFINITY)},
      {ErrorKind::failed, "0 unknown pieces", piece("a", 1)},
      {ErrorKind::failed, "2 unknown pieces", unknown + piece("b", 2)},
      {ErrorKind::failed, "not UTF-8", unknown + piece("\xff", 1)},
      {ErrorKind::failed, "is empty", unknown + piece("", 1)},
      {ErrorKind::failed, "of another kind", unknown + field(1, 7)},
      {ErrorKind::failed, "unknown kind", unknown + "\x0b"},
      {ErrorKind::failed, "inside of a field", unknown + "\x0a\x7f"},
      {ErrorKind::failed, "has no end", unknown + "\x08" + endless},
      {ErrorKind::unsupported, "of type 7", unknown + piece("a", 7)},
      {ErrorKind::unsupported, "unused pieces", unknown + piece("a", 5) + bpe},
      {ErrorKind::unsupported, "a piece of 1025 bytes",
       unknown + "\x0a\x84\x08\x0a\x81\x08" + std::string(1025, 'a')},
      {ErrorKind::unsupported, "denormalizer", unknown + field(5, field(2, "x"))},
  };
  for (const auto& test : cases) {
    SCOPED_TRACE(test.said);
    try {
      parse(test.bytes);
      ADD_FAILURE() << "parsed";
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(test.kind)) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(test.said));
    }
  }
}

// What decides ids is part of the hash that names the tokenizer in the cache.
TEST(SentencePiece, SettingsOfTheConfigurationAreHashed) {
  const Copied folder("bpe_first");
  const auto hash = [&](const char* config) {
    folder.write("tokenizer_config.json", config);
    return Tokenizer::load(folder.path()).content_hash();
  };
  EXPECT_NE(hash(R"({"legacy": false})"), hash(R"({"legacy": true})"));
  EXPECT_NE(hash(R"({"add_bos_token": true})"), hash(R"({"add_bos_token": false})"));
}

// Every proper prefix of a model is refused, or is a model of fewer parts.
TEST(SentencePiece, DamageNeverEscapes) {
  const std::string good = read_text(kModels / "unigram_user/tokenizer.model");
  for (size_t size = 0; size < good.size(); size += 7) {
    try {
      tokenizer::parse_sentencepiece(std::string_view(good).substr(0, size), "model");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::failed);
    }
  }
}

}  // namespace
}  // namespace qwb
