// Texts of answers: stop strings over every cut between tokens, tokens beside the text that they
// end.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/serve/engine/text_stream.h"
#include "lib/tokenizer/token_bytes.h"
#include "tests/serve/demo_model_helper.h"

namespace qwb::serve {
namespace {

struct Streamed {
  std::string text;
  std::vector<std::string> pieces;
  std::vector<int32_t> tokens;
  bool stopped = false;
};

Streamed stream(const std::vector<int32_t>& tokens, const std::vector<std::string>& stop) {
  const Tokenizer& tokenizer = demo_tokenizer();
  TextStream text(tokenizer.stream(true), tokenizer.encode("x", false), stop);
  Streamed result;
  const auto take = [&](TextPiece piece) {
    result.text += piece.text;
    result.pieces.push_back(piece.text);
    for (const ScoredToken& token : piece.tokens) result.tokens.push_back(token.token);
  };
  for (const int32_t token : tokens) {
    take(text.push({token}));
    if (text.stopped()) break;
  }
  if (!text.stopped()) take(text.finish());
  result.stopped = text.stopped();
  return result;
}

// The tokens of single bytes, so that every cut is one between tokens.
std::vector<int32_t> byte_tokens(const std::string& text) {
  std::vector<int32_t> tokens;
  for (const char byte : text) {
    for (int32_t id = 0; id < demo_tokenizer().vocab_size(); ++id) {
      if (demo_tokenizer().is_special(id) ||
          token_bytes(demo_tokenizer(), id) != std::string(1, byte))
        continue;
      tokens.push_back(id);
      break;
    }
  }
  return tokens;
}

TEST(TextStream, StopStringsAreFoundOverEveryCut) {
  const std::string text = "one aab aabc two";
  for (const auto& tokens : {byte_tokens(text), demo_tokenizer().encode(text, false)}) {
    const std::string whole = stream(tokens, {}).text;
    ASSERT_NE(whole.find("aabc"), std::string::npos);
    for (const std::string stop : {"aabc", "b a", "c two", "wo"}) {
      const Streamed result = stream(tokens, {stop, "nowhere"});
      EXPECT_EQ(result.text, whole.substr(0, whole.find(stop))) << stop;
      EXPECT_TRUE(result.stopped);
    }
    const Streamed free = stream(tokens, {"two!", "zzz"});
    EXPECT_EQ(free.text, whole);  // what was held back comes at the end
    EXPECT_FALSE(free.stopped);
    EXPECT_EQ(free.tokens, tokens);
  }
}

TEST(TextStream, TheStopStringThatIsCompleteFirstCounts) {
  EXPECT_EQ(stream(byte_tokens("xabcd"), {"abcd", "bc"}).text, "xa");
  EXPECT_EQ(stream(byte_tokens("xabcd"), {"bc", "abc"}).text, "x");
}

TEST(TextStream, NothingOfAStopStringIsGivenOutBefore) {
  const Streamed result = stream(byte_tokens("ab<|en|end|>c"), {"|end|"});
  EXPECT_EQ(result.text, "ab<|en");
  std::string so_far;
  for (const std::string& piece : result.pieces) {
    so_far += piece;
    EXPECT_EQ(so_far.find("|end"), std::string::npos);
  }
  // Tokens whose text was cut away are none of the answer's.
  EXPECT_EQ(result.tokens, byte_tokens("ab<|en"));
}

TEST(TextStream, CharactersComeWholeWithAllTheirTokens) {
  const std::string text = "é\xf0\x9f\x98\x80!";
  const std::vector<int32_t> tokens = byte_tokens(text);
  ASSERT_EQ(tokens.size(), text.size());
  const Streamed result = stream(tokens, {"!?"});
  EXPECT_EQ(result.text, text);
  EXPECT_EQ(result.pieces,
            (std::vector<std::string>{"", "é", "", "", "", "\xf0\x9f\x98\x80", "", "!"}));
  EXPECT_EQ(result.tokens, tokens);
  std::string bytes;
  for (const int32_t token : tokens) bytes += token_bytes(demo_tokenizer(), token);
  EXPECT_EQ(bytes, text);
}

TEST(TextStream, TokensTellTheirPlaceInCharacters) {
  TextStream text(demo_tokenizer().stream(true), {}, {});
  std::vector<int64_t> offsets;
  for (const int32_t token : byte_tokens("aéb")) {
    for (const ScoredToken& scored : text.push({token}).tokens) offsets.push_back(scored.offset);
  }
  EXPECT_EQ(offsets, (std::vector<int64_t>{0, 1, 1, 2}));
}

}  // namespace
}  // namespace qwb::serve
