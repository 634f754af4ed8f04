// Special and added tokens of a folder against transformers' AutoTokenizer
// (tests/golden/make_special_tokens.py), and the parts that a tokenizer_class brings along
// (tests/golden/make_tokenizer_classes.py).
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {
namespace {

class Folder {
 public:
  Folder() { std::filesystem::create_directories(path_); }
  ~Folder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const Json& content) const {
    std::ofstream(path_ / name) << json_text(content);
  }
  const Path& path() const { return path_; }

 private:
  Path path_ = Path(testing::TempDir()) / ("qwb_special_tokens_" + std::to_string(::getpid()));
};

TEST(SpecialTokens, AreThoseOfTransformers) {
  const Json golden = parse_json(
      read_text(Path(QWB_SOURCE_DIR) / "tests/golden/tokenizer/special_tokens.json"), "golden");
  for (const Json& c : golden["cases"]) {
    const Folder folder;
    Json file = golden["tokenizer"];
    for (const auto& [key, value] : c["tokenizer.json"].items()) file[key] = value;
    folder.write("tokenizer.json", file);
    for (const auto& [name, content] : c["files"].items()) folder.write(name, content);
    const Tokenizer tokenizer = Tokenizer::load(folder.path());
    const Json& expected = c["expected"];
    const std::string what = c["tokenizer.json"].dump() + " " + c["files"].dump();
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      const auto text = golden["texts"][i].get<std::string>();
      const auto full = tokenizer.encode(text, true);
      EXPECT_EQ(Json(full), expected["full"][i]) << text << " " << what;
      EXPECT_EQ(Json(tokenizer.encode(text, false)), expected["bare"][i]) << text << " " << what;
      EXPECT_EQ(Json(tokenizer.decode(full, true)), expected["skipped"][i]) << text << " " << what;
    }
    EXPECT_EQ(tokenizer.bos_id() ? Json(*tokenizer.bos_id()) : Json(), expected["bos"]) << what;
    EXPECT_EQ(tokenizer.eos_id() ? Json(*tokenizer.eos_id()) : Json(), expected["eos"]) << what;
  }
}

void expect_refused(const Path& folder, const std::string& what) {
  try {
    Tokenizer::load(folder);
    ADD_FAILURE() << "not refused: " << what;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported) << what;
  }
}

TEST(TokenizerClasses, BringThePartsThatTransformersGivesThem) {
  const Json golden =
      parse_json(read_text(Path(QWB_SOURCE_DIR) / "tests/golden/tokenizer/classes.json"), "golden");
  for (const Json& c : golden["cases"]) {
    const Folder folder;
    Json file = golden["tokenizers"][c["tokenizer"].get<std::string>()];
    for (const auto& [key, value] : c["tokenizer.json"].items()) file[key] = value;
    folder.write("tokenizer.json", file);
    for (const auto& [name, content] : c["files"].items()) folder.write(name, content);
    const std::string what = c["tokenizer.json"].dump() + " " + c["files"].dump();
    if (c["expected"].is_null()) {
      expect_refused(folder.path(), what);
      continue;
    }
    const Tokenizer tokenizer = Tokenizer::load(folder.path());
    EXPECT_EQ(!tokenizer.note().empty(), c["note"].get<bool>()) << what;
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      const auto text = golden["texts"][i].get<std::string>();
      EXPECT_EQ(Json(tokenizer.encode(text, true)), c["expected"][i]) << text << " " << what;
    }
  }
}

// Two classes on one tokenizer.json are two tokenizers; where the class changes nothing, one.
TEST(TokenizerClasses, AreInTheHashWhereTheyChangeIds) {
  const Json golden =
      parse_json(read_text(Path(QWB_SOURCE_DIR) / "tests/golden/tokenizer/classes.json"), "golden");
  const auto hash = [&](const char* name, const Json& normalizer) {
    Json file = golden["tokenizers"]["bytes"];
    file["normalizer"] = normalizer;
    const Json config = {{"tokenizer_class", name}};
    return Tokenizer::from_json(file.dump(), config.dump(), "test").content_hash();
  };
  const Json lower = {{"type", "Lowercase"}};
  EXPECT_NE(hash("PreTrainedTokenizerFast", lower), hash("GPT2Tokenizer", lower));
  EXPECT_NE(hash("PreTrainedTokenizerFast", nullptr), hash("Qwen2TokenizerFast", nullptr));
}

}  // namespace
}  // namespace qwb
