// What qwb-eval keeps is found again only if all that decides it is the same (point by point: leave
// one out of a key, and one of these fails).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class EvalKept : public ToolTest {
 protected:
  EvalKept() { write("text.txt", read_text(demo("text/eval.txt")).substr(0, 8'000)); }
  // Two windows of 128 tokens.
  Json brief(std::vector<std::string> arguments, const RunOptions& options = {}) const {
    arguments.insert(arguments.end(),
                     {"--text", file("text.txt").string(), "--context", "128", "--windows", "2"});
    return json("eval", arguments, options);
  }
  std::string artifact(const std::string& method) const {
    output("quantize", {"--model", gpt2_, "--method", method, "--out", file(method).string()});
    return file(method).string();
  }
};

TEST_F(EvalKept, AnotherForwardPassIsAnotherResult) {
  const std::vector<std::string> plain = {artifact("int8"), "--ppl", "--no-baseline"};
  std::vector<std::string> int8 = plain;
  int8.insert(int8.end(), {"--int8", "decompose"});
  const Json first = brief(plain)["perplexity"], other = brief(int8)["perplexity"];
  EXPECT_EQ(other["cached"], false);
  EXPECT_NE(other["value"], first["value"]);
  int8.insert(int8.end(), {"--int8-threshold", "3"});
  EXPECT_EQ(brief(int8)["perplexity"]["cached"], false);
  EXPECT_EQ(brief(plain)["perplexity"]["cached"], true);
  std::vector<std::string> speed = {plain[0], "--speed", "--pp",          "16",
                                    "--tg",   "0",       "--repetitions", "1"};
  EXPECT_FALSE(json("eval", speed)["speed"].contains("cached"));
  speed.insert(speed.end(), {"--int8", "decompose"});
  EXPECT_FALSE(json("eval", speed)["speed"].contains("cached"));
}

TEST_F(EvalKept, AnotherInstructionSetIsAnotherResult) {
  const auto at = [&](const char* isa) {
    return brief({gpt2_, "--ppl"}, {.environment = {{"QWB_ISA", isa}}})["perplexity"]["cached"];
  };
  EXPECT_EQ(at("SSE4"), false);
  EXPECT_EQ(at("SSSE3"), false);
  EXPECT_EQ(at("SSE4"), true);
}

TEST_F(EvalKept, AnotherBaselineIsAnotherDivergence) {
  const std::string nf4 = artifact("nf4"), copy = copy_demo("gpt2").string();
  const auto from = [&](const std::string& baseline) {
    return brief({nf4, "--kl", "--baseline", baseline})["divergence"];
  };
  const Json first = from(gpt2_);
  EXPECT_EQ(from(copy)["cached"], true);  // by content
  const std::string half = artifact("int8");
  const Json other = from(half);
  EXPECT_EQ(other["cached"], false);
  EXPECT_NE(other["mean_kl"], first["mean_kl"]);
}

TEST_F(EvalKept, AnotherTokenizerOrOtherItemsAreOtherAnswers) {
  const std::string model = copy_demo("gpt2").string(), items = file("items.jsonl").string();
  const std::string all = read_text(QWB_SOURCE_DIR "/tests/golden/tasks/piqa.jsonl");
  const std::string first = all.substr(0, all.find('\n') + 1);
  const auto cached = [&] {
    return brief({model, "--task", "piqa=" + items})["tasks"][0]["cached"];
  };
  write("items.jsonl", first);
  EXPECT_EQ(cached(), false);
  EXPECT_EQ(cached(), true);
  write("items.jsonl", all.substr(first.size()));
  EXPECT_EQ(cached(), false);
  write("items.jsonl", first);
  Json tokenizer = parse_json(read_text(model + "/tokenizer.json"), "tokenizer.json");
  tokenizer["normalizer"] = {{"type", "Lowercase"}};
  write("model_gpt2/tokenizer.json", tokenizer.dump());
  EXPECT_EQ(cached(), false);
}

TEST_F(EvalKept, FreshForgetsInterruptedWorkToo) {
  const std::string text = write("long.txt", read_text(demo("text/eval.txt")).substr(0, 80'000));
  std::vector<std::string> work = {gpt2_,    "--ppl", "--context", "64",
                                   "--text", text,    "--threads", "1"};
  EXPECT_EQ(tool("eval", work, interrupted_at("so far")).code, 130);
  work.emplace_back("--fresh");
  const RunResult fresh = tool("eval", work);
  EXPECT_EQ(fresh.code, 0);
  EXPECT_THAT(fresh.err, Not(HasSubstr("interrupted run")));
}

// Progress lies on the disk for days: a number that changed there must not become part of a result.
TEST_F(EvalKept, DamagedProgressIsNotUsed) {
  const std::string text = write("long.txt", read_text(demo("text/eval.txt")).substr(0, 80'000));
  std::vector<std::string> work = {gpt2_,    "--ppl", "--context", "64",
                                   "--text", text,    "--threads", "1"};
  EXPECT_EQ(tool("eval", work, interrupted_at("so far")).code, 130);
  for (const auto& entry : std::filesystem::directory_iterator(cache() / "evaluations")) {
    std::fstream bytes(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    const double wrong = 12345;
    bytes.seekp(sizeof(uint64_t));  // the first window's sum of losses
    bytes.write(reinterpret_cast<const char*>(&wrong), sizeof wrong);
  }
  const Json resumed = json("eval", work)["perplexity"];
  work.emplace_back("--fresh");
  EXPECT_EQ(resumed["value"], json("eval", work)["perplexity"]["value"]);
}

}  // namespace
}  // namespace qwb::testing
