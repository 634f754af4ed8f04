// qwb-eval as a user runs it. The demo gpt2 (512 tokens of context) keeps the runs short.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <regex>

#include "lib/base/json.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/tools/run_helper.h"

namespace qwb::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Eval : public ::testing::Test {
 protected:
  Eval() : scratch_("eval_tool") {
    const std::string text = read_text(demo("text/eval.txt")).substr(0, 12'000);
    std::ofstream(text_file()) << text;
  }
  std::string text_file() const { return (scratch_.path() / "text.txt").string(); }
  RunResult eval(std::vector<std::string> arguments, RunOptions options = {}) const {
    options.environment.try_emplace("QWB_CACHE", (scratch_.path() / "cache").string());
    options.environment.try_emplace("QWB_MODEL", "");
    arguments.insert(arguments.begin(), QWB_BIN_DIR "/qwb-eval");
    return run(arguments, options);
  }
  // On the short text.
  RunResult brief(std::vector<std::string> arguments, const RunOptions& options = {}) const {
    arguments.insert(arguments.end(), {"--text", text_file()});
    return eval(arguments, options);
  }
  Scratch scratch_;
  const std::string gpt2_ = demo("gpt2").string();
};

TEST_F(Eval, HelpAndVersion) {
  const RunResult help = eval({"--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* flag :
       {"--ppl", "--protocol", "--text", "--context", "--windows", "--speed", "--repetitions",
        "--energy", "--watts", "--no-baseline", "--table", "--json", "--int8", "--int8-threshold",
        "--quiet", "--threads", "--color", "llama.cpp", "Examples:"}) {
    EXPECT_THAT(help.out, HasSubstr(flag));
  }
  EXPECT_THAT(eval({"--version"}).out,
              ::testing::MatchesRegex("qwb-eval 0\\.1\\.0 \\(.*isa .+\\)\n.+"));
}

TEST_F(Eval, WrongFlagsAreUsageErrors) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--protocol", "x"},
      {"--context", "3"},
      {"--windows", "0"},
      {"--repetitions", "0"},
      {"--watts", "-5"},
      {"--watts", "x"},
      {"--nonsense"},
      {"--int8", "x"},
      {"--int8-threshold", "-1"},
      {"--int8-threshold", "inf"},
      {"--int8", "dequantize", "--int8-threshold", "6"}};
  for (const auto& arguments : wrong) {
    const RunResult result = eval(arguments);
    EXPECT_EQ(result.code, 2) << arguments[0];
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(lines(result.err).size(), 1u);
  }
  EXPECT_EQ(brief({gpt2_, "--context", "513"}).code, 2);
}

TEST_F(Eval, ATableAndItsNarration) {
  const RunResult result = brief({gpt2_, "--context", "256", "--windows", "3"});
  EXPECT_EQ(result.code, 0);
  ASSERT_EQ(lines(result.out).size(), 2u) << result.out;
  EXPECT_THAT(result.out, HasSubstr("perplexity (windows)"));
  EXPECT_THAT(lines(result.out)[1], HasSubstr(gpt2_ + "  none"));
  EXPECT_THAT(lines(result.out)[1], HasSubstr(" ± "));
  EXPECT_THAT(result.err, HasSubstr("context 256, 3 windows, 765 tokens scored"));
  EXPECT_EQ(brief({gpt2_, "--context", "256", "-q"}).err, "");
  EXPECT_THAT(brief({gpt2_, "--context", "256", "--color", "always"}).out,
              HasSubstr("\x1b[1martifact"));
}

TEST_F(Eval, JsonIsOneObjectALine) {
  const RunResult result =
      brief({gpt2_, gpt2_, "--protocol", "llama.cpp", "--context", "64", "--ppl", "--speed",
             "--repetitions", "2", "--energy", "--watts", "33", "--json", "--threads", "1"});
  EXPECT_EQ(result.code, 0);
  const auto rows = lines(result.out);
  ASSERT_EQ(rows.size(), 2u);
  const Json json = parse_json(rows[0], "row");
  EXPECT_EQ(json["schema"], 2);
  EXPECT_EQ(json["artifact"], gpt2_);
  EXPECT_EQ(json["perplexity"]["protocol"], "llama.cpp");
  EXPECT_EQ(json["perplexity"]["context"], 64);
  EXPECT_EQ(json["perplexity"]["tokens"], json["perplexity"]["windows"].get<int>() * 31);
  EXPECT_EQ(json["speed"]["repetitions"], 2);
  EXPECT_EQ(json["speed"]["threads"], 1);
  EXPECT_GT(json["speed"]["decode"]["median"].get<double>(), 1);
  EXPECT_GT(json["memory"]["peak_bytes"].get<int64_t>(),
            json["memory"]["weight_bytes"].get<int64_t>());
  EXPECT_GT(json["energy"]["joules"].get<double>(), 0);
  EXPECT_EQ(json["energy"]["windows"].size(), 4u);
  if (json["energy"]["method"] == "declared-power") {
    EXPECT_NEAR(json["energy"]["watts"].get<double>(), 33, 1e-6);
  }
  EXPECT_EQ(json["perplexity"]["value"], parse_json(rows[1], "row")["perplexity"]["value"]);
}

TEST_F(Eval, NothingAskedForIsPerplexityAndSpeedAloneNeedsNoText) {
  const Json speed =
      parse_json(eval({gpt2_, "--speed", "--repetitions", "1", "--json"}).out, "speed");
  EXPECT_TRUE(speed["perplexity"].is_null());
  EXPECT_TRUE(speed["energy"].is_null());
  const Json ppl = parse_json(brief({gpt2_, "--json"}).out, "ppl");
  EXPECT_TRUE(ppl["speed"].is_null());
  EXPECT_EQ(ppl["perplexity"]["context"], 512);
}

TEST_F(Eval, DefaultsToTheModelOfTheEnvironmentAndTheDemoText) {
  const RunResult result =
      eval({"--windows", "1", "--json"}, {.environment = {{"QWB_MODEL", gpt2_}}});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(parse_json(result.out, "row")["artifact"], gpt2_);
  EXPECT_THAT(result.err, HasSubstr("from QWB_MODEL"));
  EXPECT_THAT(result.err, HasSubstr("eval.txt (the demo"));
}

TEST_F(Eval, TheRatioIsToTheSourceUnlessSwitchedOff) {
  const Path artifact = scratch_.path() / "int8";
  make_artifact(demo("gpt2"), "int8", artifact, gpt2_);
  const RunResult with = brief({artifact.string(), "--context", "128", "--json"});
  EXPECT_NEAR(parse_json(with.out, "row")["perplexity"]["ratio"].get<double>(), 1, 0.02);
  EXPECT_THAT(with.err, HasSubstr("measuring the unquantized model"));
  const RunResult without =
      brief({artifact.string(), "--context", "128", "--json", "--no-baseline"});
  EXPECT_TRUE(parse_json(without.out, "row")["perplexity"]["ratio"].is_null());
  EXPECT_THAT(without.err, Not(HasSubstr("unquantized")));
}

TEST_F(Eval, AFailureDoesNotStopTheOthers) {
  const Path broken = scratch_.path() / "broken";
  std::filesystem::create_directories(broken);
  std::ofstream(broken / "config.json") << "{";
  std::ofstream(broken / "qwb.sums") << "x\n";  // damaged: code 4
  const RunResult result =
      brief({"/nonexistent", broken.string(), gpt2_, "--context", "128", "--json"});
  EXPECT_EQ(result.code, 3);  // the first error's
  EXPECT_EQ(lines(result.out).size(), 1u);
  EXPECT_THAT(result.err, HasSubstr("error: /nonexistent: no such model folder"));
  EXPECT_THAT(result.err, HasSubstr("error: " + broken.string()));
}

TEST_F(Eval, TextsThatCannotBeMeasured) {
  EXPECT_EQ(eval({gpt2_, "--text", "/nonexistent.txt"}).code, 3);
  const std::string file = (scratch_.path() / "short.txt").string();
  std::ofstream(file) << "Too short.";
  const RunResult result = eval({gpt2_, "--text", file});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("take a longer text"));
  std::ofstream(file, std::ios::trunc) << "";
  EXPECT_THAT(eval({gpt2_, "--text", file}).err, HasSubstr("the text is empty"));
}

TEST_F(Eval, RecordsBecomeTheTableOfTheSameRun) {
  const std::vector<std::string> measured = {gpt2_,       "--ppl", "--context", "128",
                                             "--windows", "2",     "--fresh"};
  std::vector<std::string> as_json = measured;
  as_json.emplace_back("--json");
  const std::string records = (scratch_.path() / "records.json").string();
  std::ofstream(records) << brief(as_json).out;
  const RunResult table = eval({"--table", records});
  EXPECT_EQ(table.code, 0) << table.err;
  // Two runs differ in nothing but their peak memory.
  const auto without_memory = [](const std::string& text) {
    return std::regex_replace(text, std::regex("[0-9.]+ MB\n"), "MB\n");
  };
  EXPECT_EQ(without_memory(table.out), without_memory(brief(measured).out));
  EXPECT_EQ(lines(eval({"--table", records, records}).out).size(), 3u);
}

TEST_F(Eval, OnlyComparableRecordsShareATable) {
  const auto record = [&](const std::string& name, const std::string& perplexity,
                          const std::string& more) {
    const std::string file = (scratch_.path() / name).string();
    std::ofstream(file) << R"({"schema": 2, "artifact": "a", "method": "rtn", "perplexity": )"
                        << perplexity << more << "}\n";
    return file;
  };
  const std::string none =
      record("none", "null", R"(, "energy": {"joules": null, "source": null})");
  const std::string one = record(
      "one", R"({"protocol": "strided", "text_hash": "x", "value": 2.5, "stderr": null})", "");
  const std::string other =
      record("other", R"({"protocol": "strided", "text_hash": "y", "value": 2.5})", "");
  const RunResult good = eval({"--table", none, one});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("perplexity (strided)"));
  EXPECT_THAT(good.out, HasSubstr("2.500"));
  EXPECT_THAT(lines(good.out)[1], HasSubstr("n/a"));  // energy that was asked for and not found
  EXPECT_EQ(eval({"--table", one, other}).code, 2);
  EXPECT_EQ(eval({"--table", "/nonexistent"}).code, 3);
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--ppl", "somewhere"},
                                               {"--ppl"},
                                               {"--max-kl", "1"},
                                               {"--max-bytes", "1"}}) {
    std::vector<std::string> words = {"--table", one};
    words.insert(words.end(), more.begin(), more.end());
    EXPECT_EQ(eval(words).code, 2) << more.front();
  }
}

TEST_F(Eval, CtrlCKeepsWhatIsFinished) {
  const RunResult result = eval({gpt2_, demo("llama").string(), "--windows", "60", "--json"},
                                {.signals = {SIGINT}, .ready = "tokens scored"});
  EXPECT_EQ(result.code, 130);
  EXPECT_EQ(lines(result.out).size(), 1u);
  EXPECT_THAT(result.err, HasSubstr("error: interrupted"));
}

TEST_F(Eval, Int8ForwardIsChosenAndNamed) {
  const std::string artifact = (scratch_.path() / "int8").string();
  make_artifact(demo("gpt2"), "int8", artifact, gpt2_);
  const auto record = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {artifact, "--context", "128", "--no-baseline", "--fresh", "--json"});
    return parse_json(brief(flags).out, "record");
  };
  const auto value = [](const Json& json) { return json["perplexity"]["value"].get<double>(); };
  const Json plain = record({}), six = record({"--int8", "decompose"});
  EXPECT_EQ(plain["int8_forward"], Json({{"name", "dequantize"}}));
  EXPECT_EQ(value(record({"--int8", "dequantize"})), value(plain));
  EXPECT_EQ(six["int8_forward"], Json({{"name", "LLM.int8"}, {"threshold", 6.0}}));
  EXPECT_EQ(value(record({"--int8-threshold", "6"})), value(six));
  EXPECT_EQ(value(record({"--int8", "decompose", "--threads", "1"})), value(six));
  const Json none = record({"--int8-threshold", "0"}), all = record({"--int8-threshold", "1e-30"});
  EXPECT_EQ(none["int8_forward"]["threshold"], 0.0);
  EXPECT_NE(value(none), value(plain));
  EXPECT_NEAR(value(six) / value(plain), 1, 0.02);
  EXPECT_NEAR(value(none) / value(plain), 1, 0.1);
  EXPECT_NEAR(value(all) / value(plain), 1,
              1e-5);  // every column with a value but zero is an outlier

  const RunResult table =
      brief({artifact, "--context", "128", "--no-baseline", "--int8", "decompose"});
  EXPECT_THAT(table.out, HasSubstr("int8 (LLM.int8, threshold 6)"));
  EXPECT_THAT(table.err, HasSubstr("int8 forward: LLM.int8, threshold 6"));
  EXPECT_THAT(brief({artifact, "--context", "128", "--no-baseline"}).err,
              HasSubstr("int8 forward: dequantize"));
}

TEST_F(Eval, Int8ForwardNeedsInt8Modules) {
  const RunResult result = brief({gpt2_, "--int8", "decompose"});
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("needs modules stored as int8, and there are none"));
  EXPECT_THAT(result.err, HasSubstr(gpt2_));
  EXPECT_EQ(brief({gpt2_, "--int8", "dequantize", "--context", "256"}).code, 0);
  EXPECT_TRUE(parse_json(brief({gpt2_, "--context", "256", "--json"}).out, "record")["int8_forward"]
                  .is_null());
}

}  // namespace
}  // namespace qwb::testing
