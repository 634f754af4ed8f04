// The manners that all tools share: how a model is named, what a mistake is answered with, what
// help looks like.
#include <gmock/gmock.h>

#include "lib/base/text.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

const char* const kTools[] = {"quantize", "convert", "eval", "complete",
                              "inspect",  "report",  "cache"};

class MannersTest : public ToolTest {};

TEST_F(MannersTest, HelpFitsAHundredColumns) {
  for (const char* name : kTools) {
    for (const std::string& line : lines(output(name, {"--help"})))
      EXPECT_LE(display_width(line), 100) << name << ": " << line;
  }
  for (const std::string& line : lines(output("cache", {"why", "--help"})))
    EXPECT_LE(display_width(line), 100) << line;
}

TEST_F(MannersTest, MistakesAreAnsweredWithWhatWasMeant) {
  const auto said = [&](const std::string& name, const Words& words) {
    const RunResult result = tool(name, words);
    EXPECT_EQ(result.code, 2) << name << ": " << result.err;
    EXPECT_EQ(lines(result.err).size(), 1u) << result.err;
    EXPECT_LT(result.err.size(), 400u) << result.err;
    return result.err;
  };
  EXPECT_THAT(said("quantize", {"--metod", "nf4", "--grop-size", "32"}),
              HasSubstr("--metod (did you mean --method?)"));
  const std::string both = said("inspect", {gpt2_, "--zzzzzzzzzz", "--modlues"});
  EXPECT_LT(both.find("--zzzzzzzzzz"), both.find("--modlues (did you mean --module"));
  EXPECT_THAT(said("quantize", {"--method", "gtpq"}), HasSubstr("did you mean 'gptq'"));
  EXPECT_THAT(said("convert", {gpt2_, "--to", "gguff"}), HasSubstr("gguf"));
  EXPECT_THAT(said("eval", {"--protocol", "windws"}), HasSubstr("did you mean windows?"));
  for (const Words& words :
       {Words{"complete", gpt2_, "hi", "--seed", "-1"},
        Words{"complete", gpt2_, "hi", "--max-tokens", "-3"}, Words{"eval", "--max-kl", "-1"},
        Words{"eval", "--context", "1"}, Words{"quantize", "--seed", "-1"},
        Words{"eval", "--idle", "1e99"}, Words{"quantize", "--samples", "-5"},
        Words{"eval", "--max-bytes", "10 parsecs"}, Words{"quantize", "--max-memory", ""},
        Words{"quantize", "--max-memory", "0"},
        Words{"convert", gpt2_, "--to", "awq", "--max-shard-size", "x"}})
    EXPECT_THAT(said(words[0], Words(words.begin() + 1, words.end())), Not(HasSubstr("e+30")));
  const RunResult little =
      tool("quantize", {"--model", gpt2_, "--method", "int8", "--max-memory", "10"});
  EXPECT_EQ(little.code, 1);
  EXPECT_THAT(little.err, HasSubstr("--max-memory allows 10 B"));
}

TEST_F(MannersTest, AModelIsAPositionOrAFlag) {
  const auto same = [&](const std::string& name, const Words& position, const Words& flag) {
    const std::string a = output(name, position), b = output(name, flag);
    EXPECT_EQ(a, b) << name;
    EXPECT_FALSE(a.empty()) << name;
  };
  same("quantize", {gpt2_, "--method", "int8"}, {"--method", "int8", "--model", gpt2_});
  same("inspect", {gpt2_, llama_}, {"--model", gpt2_, "--model", llama_});
  same("complete", {gpt2_, "hello", "--max-tokens", "3"},
       {"--model", gpt2_, "hello", "--max-tokens", "3"});
  same("complete", {gpt2_, "-f", write("p.txt", "hello"), "--max-tokens", "3"},
       {"--model", gpt2_, "hello", "--max-tokens", "3"});
  same("report", {gpt2_, "--output", "csv"}, {"--model", gpt2_, "--output", "csv"});
  same("cache", {"why", gpt2_, "--method", "int8"}, {"why", "--method", "int8", "--model", gpt2_});
  EXPECT_EQ(
      json("eval", {gpt2_, "--windows", "1", "--context", "64"})["perplexity"]["value"],
      json("eval", {"--model", gpt2_, "--windows", "1", "--context", "64"})["perplexity"]["value"]);
  EXPECT_EQ(output("convert", {gpt2_, "--to", "gguf", file("a.gguf").string()}),
            file("a.gguf").string());
  EXPECT_EQ(output("convert", {"--model", gpt2_, "--to", "gguf", file("b.gguf").string()}),
            file("b.gguf").string());
  EXPECT_EQ(tool("complete", {gpt2_, "one", "two"}).code, 2);
  EXPECT_EQ(tool("convert", {gpt2_, "a", "b", "--to", "gguf"}).code, 2);
}

TEST_F(MannersTest, NamesInAnyCaseAndTheLastWord) {
  const std::string plain = output("quantize", {gpt2_, "--method", "int8"});
  EXPECT_EQ(output("quantize", {gpt2_, "--method", "nf4", "--method", "INT8"}), plain);
  const std::string upper = file("M.GGUF").string();
  output("convert", {gpt2_, "--to", "GGUF", "--type", "Q8_0", "--dtype", "F32", upper});
  EXPECT_EQ(json("inspect", {upper, "--no-hash"})["format"], "gguf");
  output("convert", {gpt2_, "--to", "HuggingFace", "--dtype", "BF16", file("h").string()});
  output("eval",
         {gpt2_, "--protocol", "WINDOWS", "--windows", "9", "--windows", "1", "--context", "64"});
  EXPECT_EQ(json("eval", {gpt2_, "--windows", "9", "--windows", "1", "--context",
                          "64"})["perplexity"]["windows"],
            1);
  const Json both = json(
      "quantize", {gpt2_, "--method", "rtn", "--include", "*.c_fc", "--include", "*.c_proj", "-n"});
  const Json one = json("quantize", {gpt2_, "--method", "rtn", "--include", "*.c_fc", "-n"});
  EXPECT_GT(both["modules"], one["modules"]);  // what is meant to be repeated keeps all
}

TEST_F(MannersTest, RequantizingWhatIsNotQuantizedMeansTheType) {
  const RunResult result =
      tool("convert", {gpt2_, "--to", "gguf", "--requantize", "q4_0", file("m.gguf").string()});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("--requantize Q4_0 means --type Q4_0"));
  output("convert", {gpt2_, "--to", "gguf", "--type", "q4_0", file("n.gguf").string()});
  EXPECT_EQ(read_text(file("m.gguf")), read_text(file("n.gguf")));
}

TEST_F(MannersTest, TheContextsEndIsTold) {
  const RunResult full =
      tool("complete", {gpt2_, "hello", "--context", "8", "--max-tokens", "100", "--ignore-eos"});
  EXPECT_EQ(full.code, 0);
  EXPECT_THAT(full.err, HasSubstr("the context of 8 tokens is full"));
  const auto last = [&](const Words& words) {
    const Words all = lines(output("complete", words));
    return parse_json(all.back(), "")["reason"].get<std::string>();
  };
  EXPECT_EQ(
      last({gpt2_, "hello", "--context", "8", "--max-tokens", "100", "--ignore-eos", "--json"}),
      "context");
  EXPECT_EQ(last({gpt2_, "hello", "--context", "8", "--max-tokens", "2", "--ignore-eos", "--json"}),
            "length");
}

TEST_F(MannersTest, TablesShowWhatWasMeasured) {
  const std::string table = output("eval", {gpt2_, "--windows", "1", "--context", "64"});
  EXPECT_THAT(table, HasSubstr("perplexity"));
  for (const char* absent : {"mean KL", "energy", "prefill", "ratio"})
    EXPECT_THAT(table, Not(HasSubstr(absent)));
  const RunResult full = tool("inspect", {gpt2_, "--no-hash"}, {.stdout_path = "/dev/full"});
  EXPECT_EQ(full.code, 1);
  EXPECT_EQ(lines(full.err).size(), 1u) << full.err;
  EXPECT_THAT(full.err, HasSubstr("No space left"));
}

}  // namespace
}  // namespace qwb::testing
