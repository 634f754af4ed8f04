// The windows of every protocol, written out by hand from the tools' own code, and the texts they
// read.
#include "lib/evaluate/protocols.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/evaluate/unicode_text.h"
#include "lib/model/model.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Fixture {
  Tokenizer tokenizer = Tokenizer::load(testing::demo("llama"));  // adds a BOS
  ModelConfig config;
  Fixture() {
    config.vocab = tokenizer.vocab_size();
    config.max_positions = 64;
  }
  TokenPlan plan(const ProtocolOptions& options, const EvaluationText& text) const {
    return make_plan(options, config, tokenizer, text);
  }
};

// begin, size, first, unit
std::vector<std::vector<int64_t>> shape(const TokenPlan& plan) {
  std::vector<std::vector<int64_t>> rows;
  for (const TokenWindow& w : plan.windows) rows.push_back({w.begin, w.size, w.first, w.unit});
  return rows;
}

// A text of exactly this many tokens, BOS included.
EvaluationText of_tokens(const Fixture& f, int64_t tokens) {
  std::string text;
  while (std::ssize(f.tokenizer.encode(text, true)) < tokens) text += " the";
  EXPECT_EQ(std::ssize(f.tokenizer.encode(text, true)), tokens);
  return plain_text(text, "t");
}

TEST(Protocols, WindowsAndGptqAreDisjoint) {
  const Fixture f;
  for (const char* name : {"windows", "gptq"}) {
    const TokenPlan plan = f.plan({name, 20}, of_tokens(f, 59));
    EXPECT_THAT(shape(plan), ElementsAre(ElementsAre(0, 20, 1, 0), ElementsAre(20, 20, 1, 1)));
    EXPECT_EQ(plan.scored(), 38);
    EXPECT_EQ(plan.read(), 38);
    EXPECT_FALSE(plan.windows[1].first_token);
  }
  EXPECT_EQ(f.plan({"windows"}, of_tokens(f, 70)).context, 64);
}

TEST(Protocols, LlamaCppPutsABosEverywhereAndScoresTheSecondHalf) {
  const Fixture f;
  const TokenPlan plan = f.plan({"llama.cpp", 20}, of_tokens(f, 59));
  EXPECT_THAT(shape(plan), ElementsAre(ElementsAre(0, 20, 11, 0), ElementsAre(20, 20, 11, 1)));
  EXPECT_EQ(plan.windows[1].first_token, f.tokenizer.bos_id());
  EXPECT_THAT(shape(f.plan({"llama.cpp", 21}, of_tokens(f, 59)))[0], ElementsAre(0, 21, 11, 0));
}

TEST(Protocols, HfStrideScoresNewTokensAndWeighsThemAsThePageDoes) {
  const Fixture f;
  const TokenPlan plan = f.plan({"hf-stride", 20, 8}, of_tokens(f, 41));
  // begin 0, 8, 16, 24: ends 20, 28, 36, 41
  EXPECT_THAT(shape(plan), ElementsAre(ElementsAre(0, 20, 1, 0), ElementsAre(8, 20, 12, 1),
                                       ElementsAre(16, 20, 12, 2), ElementsAre(24, 17, 12, 3)));
  EXPECT_EQ(plan.windows[0].weight, 19);
  EXPECT_EQ(plan.windows[0].scale, 1);
  EXPECT_EQ(plan.windows[1].weight, 7);
  EXPECT_EQ(plan.windows[1].scale, 7.0 / 8);
  EXPECT_EQ(plan.windows[3].weight, 4);
  // Without overlap the first token of every window is lost.
  EXPECT_THAT(shape(f.plan({"hf-stride", 20, 20}, of_tokens(f, 41))),
              ElementsAre(ElementsAre(0, 20, 1, 0), ElementsAre(20, 20, 1, 1)));
  EXPECT_EQ(f.plan({"hf-stride"}, of_tokens(f, 70)).stride, 32);
  EXPECT_EQ(f.plan({"hf-stride", 20, 8, 2}, of_tokens(f, 41)).windows.size(), 2u);
}

TEST(Protocols, LmEvalRollsOverDocuments) {
  const Fixture f;
  EvaluationText text = of_tokens(f, 45);
  text.documents.push_back(text.documents[0]);
  const TokenPlan plan = f.plan({"lm-eval", 20}, text);
  // 45 tokens (the tokenizer's BOS is one of them) behind a prefix token: 20, 20 and 5 of them are
  // predicted; the last window reaches back as far as the context allows.
  EXPECT_THAT(shape(plan), ElementsAre(ElementsAre(0, 21, 1, 0), ElementsAre(20, 21, 1, 0),
                                       ElementsAre(25, 21, 16, 0), ElementsAre(46, 21, 1, 1),
                                       ElementsAre(66, 21, 1, 1), ElementsAre(71, 21, 16, 1)));
  EXPECT_EQ(plan.scored(), 90);
  EXPECT_EQ(plan.ids[0], f.tokenizer.bos_id());
  EXPECT_EQ(plan.ids[1], f.tokenizer.bos_id());
  EXPECT_EQ(plan.words, 2 * text.documents[0].words);
  EXPECT_THAT(plan.unit_weights, ElementsAre(text.documents[0].words, text.documents[0].words));
  const TokenPlan one = f.plan({"lm-eval", 20, 0, 1}, text);
  EXPECT_EQ(one.documents, 1);
  ASSERT_EQ(one.unit_weights.size(), 3u);  // windows, where there is one document
  EXPECT_NEAR(one.unit_weights[0] + one.unit_weights[1] + one.unit_weights[2],
              static_cast<double>(text.documents[0].words), 1e-9);
  // A short document is one window; no BOS is added to a text that begins with one.
  EXPECT_THAT(shape(f.plan({"lm-eval"}, plain_text("the", "t"))),
              ElementsAre(ElementsAre(0, 3, 1, 0)));
  EXPECT_EQ(f.plan({"lm-eval"}, plain_text("<s> the", "t")).ids.size(),
            f.tokenizer.encode("<s> the", false).size() + 1);
}

TEST(Protocols, EveryDifferenceMakesAnotherHash) {
  const Fixture f;
  const EvaluationText text = of_tokens(f, 64);
  const std::vector<ProtocolOptions> all = {
      {"windows", 20},      {"windows", 21}, {"llama.cpp", 20},     {"hf-stride", 20, 8},
      {"hf-stride", 20, 9}, {"lm-eval", 20}, {"windows", 20, 0, 1}, {"windows", 20, 0, 2}};
  std::vector<std::string> hashes;
  for (const ProtocolOptions& options : all) hashes.push_back(f.plan(options, text).hash());
  std::sort(hashes.begin(), hashes.end());
  EXPECT_EQ(std::unique(hashes.begin(), hashes.end()), hashes.end());
  EXPECT_EQ(f.plan({"windows", 20}, text).hash(), f.plan({"gptq", 20}, text).hash());
}

TEST(Texts, WordsAreCountedAsPythonSplits) {
  EXPECT_EQ(count_words("a b"), 2);
  EXPECT_EQ(count_words(" a  b\n"), 4);  // ['', 'a', 'b', '']
  EXPECT_EQ(count_words(""), 1);
  EXPECT_EQ(count_words("a\u00a0b\u2003\u3000c"), 3);
  EXPECT_EQ(count_words("a\u200bb"), 1);  // a zero-width space is none
}

TEST(Texts, PythonsStrings) {
  EXPECT_EQ(strip(" \n\u00a0a b\u2003 "), "a b");
  EXPECT_EQ(strip(" \t"), "");
  EXPECT_EQ(strip_right("a \u3000"), "a");
  EXPECT_EQ(capitalize("hELLO Wörld"), "Hello wörld");
  EXPECT_EQ(capitalize("ÉCOLE"), "École");
  EXPECT_EQ(capitalize("élan"), "Élan");
  EXPECT_EQ(count_characters("aé漢😀\xff"), 5);
  EXPECT_EQ(replace_all("aaa", "aa", "b"), "ba");
}

TEST(Texts, DetokenizesAsLmEvalDoes) {
  // What preprocess_wikitext.py makes of it.
  EXPECT_EQ(detokenize_wikitext(" = Valkyria @-@ X = \n the dogs ' bone , 1 @,@ 000 ( a ) [ b ] { "
                                "c } \" d \" ' e ' . \n"),
            " = Valkyria-X =\nthe dogs'bone, 1,000 (a) [b] {c} \"d\"' e '.\n");
  EXPECT_EQ(detokenize_wikitext("5 \u00b0 C , it 's N degrees"), "5\u00b0C, it's 1 degrees");
  EXPECT_EQ(detokenize_wikitext("x /' 7/ y = = = a = = = ( b"), "x /'[0-9]/ y === a === ( b");
}

TEST(Texts, LinesAreDocuments) {
  const EvaluationText text =
      jsonl_text("{\"text\": \"a b\"}\n\n{\"page\": \"c , d\"}\n", "f.jsonl");
  ASSERT_EQ(text.documents.size(), 2u);
  EXPECT_EQ(text.documents[0].text, "a b");
  EXPECT_EQ(text.documents[1].text, "c, d");
  EXPECT_EQ(text.documents[1].words, 3);  // of the page as it was
  EXPECT_EQ(text.documents[1].bytes, 5);
  EXPECT_EQ(text.whole, "a b\n\nc , d");
  for (const char* broken : {"{\"text\": \"a\"}\n{", "{\"text\": \"a\"}\n{\"x\": 1}"}) {
    try {
      jsonl_text(broken, "f.jsonl");
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("f.jsonl:2"));
    }
  }
  EXPECT_THROW(jsonl_text("\n", "f.jsonl"), Error);
}

// As the loaders of Hugging Face's two forms of WikiText cut the same file.
TEST(Texts, WikiTextHasThreeForms) {
  const EvaluationText text =
      wikitext_text(" \n = A = \n \n x y \n = = S = = \n z \n \n = B = \n q \n", "wiki.test.raw");
  EXPECT_EQ(text.raw, " \n = A = \n \n x y \n = = S = = \n z \n \n = B = \n q \n");
  EXPECT_EQ(text.whole,
            "\n\n = A = \n\n\n\n\n x y \n\n\n = = S = = \n\n\n z \n\n\n\n\n = B = \n\n\n q \n");
  ASSERT_EQ(text.documents.size(), 2u);
  EXPECT_EQ(text.documents[0].bytes,
            static_cast<int64_t>(std::string(" = A = \n \n x y \n = = S = = \n z \n ").size()));
  const EvaluationText rows = wikitext_jsonl_text(
      "{\"text\": \"\"}\n{\"text\": \" = A = \\n\"}\n\n{\"text\": \"\"}\n{\"text\": \" x y \\n\"}\n"
      "{\"text\": \" = = S = = \\n\"}\n{\"text\": \" z \\n\"}\n{\"text\": \"\"}\n{\"text\": \" = B "
      "= \\n\"}\n"
      "{\"text\": \" q \\n\"}\n",
      "wikitext2.jsonl");
  EXPECT_EQ(rows.raw, text.raw);
  EXPECT_EQ(rows.hash, text.hash);
  EXPECT_THROW(wikitext_jsonl_text("{\"page\": \"\"}\n", "wikitext2.jsonl"), Error);
}

}  // namespace
}  // namespace qwb
