// Damaged and hostile files give a qwb::Error; long words take no quadratic time.
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/rng.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {
namespace {

const Path kSource = QWB_SOURCE_DIR;

std::string bpe(const std::string& vocab, const std::string& merges, const std::string& rest = "") {
  return R"({"version":"1.0","model":{"type":"BPE","vocab":)" + vocab + R"(,"merges":)" + merges +
         "}" + rest + "}";
}

void expect_error(const std::string& json, const std::string& part,
                  ErrorKind kind = ErrorKind::failed) {
  try {
    (void)Tokenizer::from_json(json, "", "file");
    ADD_FAILURE() << "accepted: " << json.substr(0, 200);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    EXPECT_EQ(error.kind(), kind) << error.what();
  }
}

TEST(Damage, EachHasItsMessage) {
  EXPECT_EQ(Tokenizer::from_json(bpe(R"({"a":0,"b":1,"ab":2})", R"(["a b"])"), "", "f")
                .encode("ab", false),
            std::vector<int32_t>{2});
  expect_error("", "not valid JSON");
  expect_error("[]", "top level");
  expect_error("{}", "'model' is missing");
  expect_error(R"({"model":[]})", "must be an object");
  expect_error(R"({"model":{"type":"WordPiece","vocab":{}}})", "WordPiece", ErrorKind::unsupported);
  expect_error(R"({"model":{"type":"BPE","merges":[]}})", "needs a 'vocab'");
  expect_error(R"({"model":{"type":"Unigram","vocab":[]}})", "empty");
  expect_error(R"({"model":{"type":"Unigram","vocab":[["a",1,2]]}})", "'vocab'");
  expect_error(R"({"model":{"type":"Unigram","vocab":[["a"]]}})", "incomplete");
  expect_error(R"({"model":{"type":"Unigram","vocab":[["a",-1]],"unk_id":1}})", "unk_id");
  expect_error(R"({"model":{"type":"Unigram","vocab":[["a",-1]],"unk_id":-9}})", "unk_id");
  expect_error(bpe(R"({"a":-1})", "[]"), "-1");
  expect_error(bpe(R"({"a":1099511627776})", "[]"), "1099511627776");
  expect_error(bpe(R"({"a":99999999999999999999})", "[]"), "");
  expect_error(bpe(R"({"a":1.5})", "[]"), "'vocab'");
  expect_error(bpe(R"({"a":"x"})", "[]"), "'vocab'");
  expect_error(bpe(R"({"a":{"b":1}})", "[]"), "'vocab'");
  expect_error(bpe(R"({"a":0,"a":1})", "[]"), "twice");
  expect_error(bpe(R"({"a":0,"b":0})", "[]"), "two tokens");
  expect_error(bpe(R"({"a":0})", R"(["a z"])"), "unknown token");
  expect_error(bpe(R"({"a":0,"b":1})", R"(["a b"])"), "unknown token");
  expect_error(bpe(R"({"a":0})", R"(["a"])"), "one space");
  expect_error(bpe(R"({"a":0})", R"(["a b c"])"), "one space");
  expect_error(bpe(R"({"a":0})", R"([["a"]])"), "incomplete");
  expect_error(bpe(R"({"a":0})", R"([["a","b","c"]])"), "more than a pair");
  expect_error(bpe(R"({"a":0})", R"([[["a"]]])"), "pair");
  expect_error(bpe(R"({"a":0})", R"([7])"), "'merges'");
  expect_error(bpe(R"({"a":0})", R"({})"), "must be a list");
  expect_error(bpe(R"({"a":0})", "[]", R"(,"added_tokens":[{"id":-5,"content":"x"}])"), "-5");
  expect_error(bpe(R"({"a":0})", "[]", R"(,"added_tokens":[{"id":1099511627776,"content":"x"}])"),
               "1099511627776");
  expect_error(bpe(R"({"a":0})", "[]", R"(,"added_tokens":[{"content":"x"}])"), "'id' is missing");
  expect_error(bpe(R"({"a":0})", "[]", R"(,"added_tokens":{})"), "must be a list");
  expect_error(bpe(R"({"a":0})", "[]", R"(,"normalizer":{"type":"Precompiled"})"), "Precompiled",
               ErrorKind::unsupported);
  expect_error(bpe(R"({"a":0})", "[]", R"(,"pre_tokenizer":{"type":"UnicodeScripts"})"),
               "UnicodeScripts", ErrorKind::unsupported);
  expect_error(
      bpe(R"({"a":0})", "[]",
          R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"})"),
      "regular expression");
  expect_error(bpe(R"({"a":0})", "[]", R"(,"decoder":{"type":"CTC"})"), "CTC",
               ErrorKind::unsupported);
  expect_error(
      bpe(R"({"a":0})", "[]",
          R"(,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]})"),
      "does not define 'x'");
  expect_error(bpe(R"({"a":0})", "[]", R"(,"x":)" + std::string(100000, '[')), "");
}

TEST(Damage, EveryTruncationAndManyFlipsAreErrorsOrTokenizers) {
  const Json golden =
      parse_json(read_text(kSource / "tests/golden/tokenizer/ids.json"), "ids.json");
  Rng rng(5);
  for (const Json& c : golden["cases"]) {
    if (c["tokenizer"].is_null()) continue;
    const auto text = c["tokenizer"].get<std::string>();
    for (int round = 0; round < 30; ++round) {
      std::string damaged = text;
      if (round % 2 == 0) {
        damaged.resize(rng.below(damaged.size()));
      } else {
        for (int k = 0; k < 3; ++k)
          damaged[rng.below(damaged.size())] = static_cast<char>(rng.below(128));
      }
      try {
        const auto tokenizer = Tokenizer::from_json(damaged, "", "damaged");
        EXPECT_NE(round % 2, 0) << "a truncated file was accepted";
        (void)tokenizer.decode(tokenizer.encode("Hello <s> w\xc3\xb6rld 123", true), true);
      } catch (const Error&) {
      }
    }
  }
}

TEST(Damage, MissingFilesSayWhatToDo) {
  const Path folder =
      std::filesystem::temp_directory_path() / ("qwb_tokenizer_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  write_file_atomically(folder / "tekken.json", as_bytes("x"));
  try {
    (void)Tokenizer::load(folder);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::not_found);
    EXPECT_NE(std::string(error.what()).find("only tekken.json"), std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find("save_pretrained"), std::string::npos);
  }
  std::filesystem::remove_all(folder);
  EXPECT_THROW((void)Tokenizer::load(folder), Error);
}

// Of equal pairs the leftmost is merged first, in short words and in long ones (which take another
// way).
TEST(Merges, TiesGoToTheLeft) {
  const auto tokenizer = Tokenizer::from_json(bpe(R"({"a":0,"aa":1})", R"(["a a"])"), "", "f");
  for (const size_t count : {3u, 7u, 39u, 41u, 101u, 1001u}) {
    std::vector<int32_t> expected(count / 2, 1);
    expected.push_back(0);
    EXPECT_EQ(tokenizer.encode(std::string(count, 'a'), false), expected) << count;
  }
}

// A megabyte without a place to cut: quadratic work would take hours, not a few seconds.
TEST(SlowSpeed, LongWordsAreNotQuadratic) {
  for (const char* name : {"llama", "gpt2"}) {
    const Tokenizer tokenizer = Tokenizer::load(kSource / "recipes/demo" / name);
    for (const std::string& piece : {std::string(" "), std::string("a"), std::string("\n"),
                                     std::string("\xe2\x96\x81"), std::string("ab1")}) {
      std::string text;
      while (text.size() < (1 << 20)) text += piece;
      const auto begin = std::chrono::steady_clock::now();
      const auto ids = tokenizer.encode(text, false);
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20))
          << name << " '" << piece << "'";
      EXPECT_EQ(tokenizer.decode(ids, true),
                name[0] == 'l' && piece[0] == '\xe2' ? std::string(text.size() / 3, ' ') : text);
    }
  }
}

TEST(Threads, ManyEncodeAtOnce) {
  const Tokenizer tokenizer = Tokenizer::load(kSource / "recipes/demo/gpt2");
  const std::string text = read_text(kSource / "recipes/demo/text/eval.txt").substr(0, 50000);
  const auto expected = tokenizer.encode(text, false);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int k = 0; k < 5; ++k) wrong += tokenizer.encode(text, false) != expected;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace qwb
