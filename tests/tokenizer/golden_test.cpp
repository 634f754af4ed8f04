// Ids and decoded texts against those of Hugging Face tokenizers, for small tokenizers of every
// kind and for the demo models (tests/golden/make_tokenizer.py).
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/rng.h"
#include "lib/tokenizer/tokenizer.h"
#include "lib/tokenizer/unicode.h"

namespace qwb {
namespace {

const Path kRoot = QWB_SOURCE_DIR;

const Json& golden() {
  static const Json value =
      parse_json(read_text(kRoot / "tests/golden/tokenizer/ids.json"), "ids.json");
  return value;
}

std::string tokenizer_text(const Json& c) {
  return c["folder"].is_null()
             ? c["tokenizer"].get<std::string>()
             : read_text(kRoot / c["folder"].get<std::string>() / "tokenizer.json");
}

class Golden : public testing::TestWithParam<size_t> {
 protected:
  const Json& c = golden()["cases"][GetParam()];
  const Tokenizer tokenizer =
      Tokenizer::from_json(tokenizer_text(c), "", c["name"].get<std::string>());
  std::vector<std::string> texts = golden()["texts"].get<std::vector<std::string>>();
  std::vector<std::vector<int32_t>> ids(const char* key) const {
    return c[key].get<std::vector<std::vector<int32_t>>>();
  }
};

TEST_P(Golden, EncodesAsTheReference) {
  const auto bare = ids("ids"), full = ids("full");
  for (int round = 0; round < 2; ++round) {  // the second time through the cache
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(tokenizer.encode(texts[i], false), bare[i])
          << c["name"] << " " << testing::PrintToString(texts[i]);
      EXPECT_EQ(tokenizer.encode(texts[i], true), full[i])
          << c["name"] << " " << testing::PrintToString(texts[i]);
    }
  }
}

TEST_P(Golden, DecodesAsTheReference) {
  auto all = ids("full");
  for (const auto& noise : ids("noise")) all.push_back(noise);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(tokenizer.decode(all[i], false), c["decoded"][i].get<std::string>())
        << c["name"] << " " << i;
    EXPECT_EQ(tokenizer.decode(all[i], true), c["skipped"][i].get<std::string>())
        << c["name"] << " " << i;
  }
}

TEST_P(Golden, StreamsWhatItDecodes) {
  auto all = ids("full");
  for (const auto& noise : ids("noise")) all.push_back(noise);
  for (const auto& sequence : all) {
    StreamDecoder stream = tokenizer.stream(false);
    std::string text;
    for (const int32_t id : sequence) {
      const std::string part = stream.push(id);
      EXPECT_TRUE(tokenizer::is_valid_utf8(part)) << c["name"];
      text += part;
    }
    text += stream.finish();
    EXPECT_EQ(text, tokenizer.decode(sequence, false)) << c["name"];
  }
}

// The same ids with the generic regular expressions, and with long texts made of the short ones.
TEST_P(Golden, ScannersAgreeWithRegularExpressions) {
  const Tokenizer slow = Tokenizer::from_json_without_scanners(tokenizer_text(c), "pcre2");
  Rng rng(3);
  for (int round = 0; round < 20; ++round) {
    std::string text;
    for (int k = 0; k < 10; ++k) text += texts[rng.below(texts.size())];
    EXPECT_EQ(tokenizer.encode(text, false), slow.encode(text, false))
        << c["name"] << " " << testing::PrintToString(text);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Golden, testing::Range<size_t>(0, golden()["cases"].size()), [](const auto& parameter) {
      return golden()["cases"][parameter.param]["name"].template get<std::string>();
    });

TEST(SlowDemoModels, RoundTrip) {
  for (const char* name : {"llama", "gpt2"}) {
    const Tokenizer tokenizer = Tokenizer::load(kRoot / "recipes/demo" / name);
    const std::string text = read_text(kRoot / "recipes/demo/text/eval.txt");
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, true), true), text) << name;
    EXPECT_EQ(tokenizer.vocab_size(), 4096);
  }
}

TEST(SlowDemoModels, SpecialTokensFollowTheConfig) {
  const Tokenizer llama = Tokenizer::load(kRoot / "recipes/demo/llama");
  EXPECT_EQ(llama.encode("Hello  world", true),
            (std::vector<int32_t>{1, 602, 409, 330, 377, 1067}));
  EXPECT_EQ(llama.special_prefix(), std::vector<int32_t>{1});
  EXPECT_EQ(llama.bos_id(), 1);
  EXPECT_EQ(llama.eos_id(), 2);
  EXPECT_TRUE(llama.is_special(1));
  const Tokenizer gpt2 = Tokenizer::load(kRoot / "recipes/demo/gpt2");
  EXPECT_EQ(gpt2.encode("Hello  world", true), (std::vector<int32_t>{39, 501, 78, 220, 934}));
  EXPECT_TRUE(gpt2.special_prefix().empty());
  EXPECT_EQ(gpt2.bos_id(), 4095);
  EXPECT_EQ(gpt2.id_of("<|endoftext|>"), 4095);
  EXPECT_NE(gpt2.content_hash(), llama.content_hash());

  // The post-processor decides, whatever the flags say.
  const std::string file = read_text(kRoot / "recipes/demo/llama/tokenizer.json");
  const auto expected = Tokenizer::from_json(file, "", "llama").encode("a", true);
  EXPECT_EQ(expected[0], 1);
  for (const char* config : {R"({"add_bos_token": false, "bos_token": "<s>"})",
                             R"({"add_eos_token": true, "eos_token": "</s>"})"})
    EXPECT_EQ(Tokenizer::from_json(file, config, "llama").encode("a", true), expected) << config;
}

TEST(Encode, InvalidUtf8CountsAsReplacementCharacters) {
  const Tokenizer gpt2 = Tokenizer::load(kRoot / "recipes/demo/gpt2");
  const std::pair<const char*, const char*> cases[] = {
      {"a\xff", "a\xef\xbf\xbd"},
      {"\xe4\xbd", "\xef\xbf\xbd"},
      {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xf0\x9f\x98 b", "\xef\xbf\xbd b"},
      {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"}};
  for (const auto& [bad, good] : cases)
    EXPECT_EQ(gpt2.encode(bad, false), gpt2.encode(good, false)) << good;
}

}  // namespace
}  // namespace qwb
