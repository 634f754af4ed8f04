// `qwb-eval --text wikitext2`: from the fake Hub, from its cache, from QWB_DATA in each of its
// forms.
#include <zip.h>

#include <fstream>

#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string wikitext() {
  std::string text = " \n = A page = \n \n";
  for (int i = 0; i < 40; ++i)
    text += " Line " + std::to_string(i) + " of the text , which goes on . \n \n";
  return text;
}

// With two members before the one that is wanted.
std::string zip_bytes(const Path& scratch, const std::string& text,
                      zip_int32_t compression = ZIP_CM_DEFLATE) {
  const Path file = scratch / "made.zip";
  int code = 0;
  zip_t* zip = zip_open(file.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  const std::string other = "no\n";
  const auto add = [&](const char* name, const std::string& content) {
    const zip_int64_t index =
        zip_file_add(zip, name, zip_source_buffer(zip, content.data(), content.size(), 0), 0);
    EXPECT_EQ(zip_set_file_compression(zip, static_cast<zip_uint64_t>(index), compression, 0), 0);
  };
  add("wikitext-2-raw/wiki.train.raw", other);
  add("wikitext-2-raw/wiki.valid.raw", other);
  if (!text.empty()) add("wikitext-2-raw/wiki.test.raw", text);
  EXPECT_EQ(zip_close(zip), 0);
  return read_text(file);
}

class SlowWikitext : public PullTest {
 protected:
  RunResult evaluate(const Environment& more = {}) const {
    return tool("eval",
                {(Path(QWB_SOURCE_DIR) / "recipes/demo/gpt2").string(), "--text", "wikitext2",
                 "--context", "64", "--json"},
                more);
  }
  static std::string tokens(const RunResult& result) {
    EXPECT_EQ(result.code, 0) << result.err;
    return parse_json(result.out, "record")["perplexity"]["token_hash"];
  }
  Path data() const {
    fs::create_directories(scratch_.path() / "data");
    return scratch_.path() / "data";
  }
  Environment there() const { return {{"QWB_DATA", data().string()}, {"HF_HUB_OFFLINE", "1"}}; }
};

TEST_F(SlowWikitext, ComesFromTheHubOnce) {
  hub_->add("ggml-org/ci", "datasets")
      .put("wikitext-2-raw-v1.zip", zip_bytes(scratch_.path(), wikitext()));
  const std::string first = tokens(evaluate());
  EXPECT_EQ(hub_->count("wikitext-2-raw-v1.zip"), 1);
  hub_->forget_requests();
  EXPECT_EQ(tokens(evaluate()), first);
  EXPECT_EQ(tokens(evaluate({{"HF_HUB_OFFLINE", "1"}})), first);
  EXPECT_EQ(hub_->seen().size(), 0u);
}

TEST_F(SlowWikitext, EveryFormIsTheSameText) {
  std::ofstream(data() / "wiki.test.raw") << wikitext();
  const std::string plain = tokens(evaluate(there()));
  fs::remove(data() / "wiki.test.raw");
  std::ofstream(data() / "wikitext-2-raw-v1.zip") << zip_bytes(scratch_.path(), wikitext());
  EXPECT_EQ(tokens(evaluate(there())), plain);
  fs::remove(data() / "wikitext-2-raw-v1.zip");
  std::ofstream rows(data() / "wikitext2.jsonl");
  for (const std::string& line : lines(wikitext()))
    rows << Json({{"text", line == " " ? "" : line + "\n"}}).dump() << "\n";
  rows.close();
  EXPECT_EQ(tokens(evaluate(there())), plain);
}

TEST_F(SlowWikitext, DamagedZipFilesAreTold) {
  const std::string whole = zip_bytes(scratch_.path(), wikitext());
  const auto complaint = [&](const std::string& bytes) {
    std::ofstream(data() / "wikitext-2-raw-v1.zip", std::ios::trunc) << bytes;
    const RunResult result = evaluate(there());
    EXPECT_EQ(result.code, 1) << result.err;
    return result.err;
  };
  EXPECT_THAT(complaint(whole.substr(0, whole.size() / 2)),
              HasSubstr("no zip file, or a damaged one"));
  EXPECT_THAT(complaint(zip_bytes(scratch_.path(), "")), HasSubstr("it has no wiki.test.raw"));
  std::string flipped = whole;
  const size_t header = whole.find("wiki.test.raw");
  flipped[header + 40] =
      static_cast<char>(flipped[header + 40] ^ 0x10);  // among the compressed bytes
  EXPECT_THAT(complaint(flipped), HasSubstr("wiki.test.raw in it is damaged"));
  // Not compressed: a letter that changed leaves a file in which nothing but the checksum tells.
  std::string stored = zip_bytes(scratch_.path(), wikitext(), ZIP_CM_STORE);
  const size_t text = stored.find(wikitext());
  ASSERT_NE(text, std::string::npos);
  stored[text + 100] = static_cast<char>(stored[text + 100] ^ 1);
  EXPECT_THAT(complaint(stored), HasSubstr("wiki.test.raw in it is damaged"));
}

TEST_F(SlowWikitext, AbsentItSaysHowToGetIt) {
  const RunResult absent = evaluate({{"HF_HUB_OFFLINE", "1"}});
  EXPECT_EQ(absent.code, 3);
  EXPECT_THAT(absent.err, HasSubstr("the text 'wikitext2' is not here"));
  EXPECT_THAT(absent.err, HasSubstr("QWB_DATA"));
  EXPECT_EQ(absent.err.find("parquet"), std::string::npos);
  // Where the Hub's own form was pulled by others, what makes a text of it.
  fs::create_directories(cache() / "datasets--Salesforce--wikitext");
  const RunResult parquet = evaluate({{"HF_HUB_OFFLINE", "1"}});
  EXPECT_EQ(parquet.code, 3);
  EXPECT_THAT(parquet.err, HasSubstr("to_json('wikitext2.jsonl')"));
}

}  // namespace
}  // namespace qwb::testing
