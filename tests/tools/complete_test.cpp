// qwb-complete as a user runs it. Golden: complete.json, greedy tokens of transformers
// (make_complete.py).
#include <gmock/gmock.h>

#include <csignal>
#include <set>

#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class Complete : public ToolTest {
 protected:
  Words gpt2(Words more) const {
    Words words = {"--model", gpt2_};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::vector<Json> rows(Words words) const {
    words.emplace_back("--json");
    std::vector<Json> result;
    for (const std::string& line : lines(output("complete", words)))
      result.push_back(parse_json(line, "row"));
    return result;
  }
  static std::vector<int> ids(const std::vector<Json>& rows) {
    std::vector<int> result;
    for (const Json& row : rows) {
      if (row.contains("token")) result.push_back(row["token"]);
    }
    return result;
  }
  const std::string prompt_ = "The history of the city begins";
};

TEST_F(Complete, HelpNamesEveryFlag) {
  const std::string help = output("complete", {"--help"});
  for (const char* flag : {"PROMPT",           "--file",        "--model",
                           "--max-tokens",     "--temperature", "--top-k",
                           "--top-p",          "--min-p",       "--repetition-penalty",
                           "--seed",           "--context",     "--ignore-eos",
                           "--no-special",     "--chat",        "--echo",
                           "--messages",       "--stats",       "--int8",
                           "--int8-threshold", "--json",        "--threads",
                           "Examples:"}) {
    EXPECT_THAT(help, HasSubstr(flag));
  }
}

TEST_F(Complete, GreedyTextIsThatOfTransformers) {
  const Json golden =
      parse_json(read_text(Path(QWB_SOURCE_DIR) / "tests/golden/complete.json"), "complete.json");
  ASSERT_EQ(golden.size(), 4u);
  for (const Json& one : golden) {
    const std::string prompt = one["prompt"];
    const Words words = {
        "--model", demo(one["model"]).string(), "--max-tokens", "40", "--ignore-eos", prompt};
    const auto result = rows(words);
    EXPECT_EQ(ids(result), one["tokens"].get<std::vector<int>>()) << prompt;
    EXPECT_EQ(result.back()["text"], one["text"]);
    std::string joined;
    for (const Json& row : result)
      joined += row.contains("token") ? row["text"].get<std::string>() : "";
    EXPECT_EQ(one["text"], joined + result.back()["rest"].get<std::string>());
    EXPECT_EQ(tool("complete", words).out, one["text"].get<std::string>() + "\n");
  }
}

TEST_F(Complete, PromptFromArgumentFileAndStandardInput) {
  const std::string text = write("prompt.txt", prompt_ + "\n");
  const std::string expected = output("complete", gpt2({prompt_, "--max-tokens", "6"}));
  EXPECT_NE(expected, "");
  EXPECT_EQ(output("complete", gpt2({"-f", text, "--max-tokens", "6"})), expected);
  EXPECT_EQ(output("complete", gpt2({"--file", text, "--max-tokens", "6"})), expected);
  EXPECT_EQ(output("complete", gpt2({"-", "--max-tokens", "6"}), {.stdin_path = text}), expected);
  EXPECT_EQ(output("complete", gpt2({prompt_, "--max-tokens", "6", "--echo"})), prompt_ + expected);
  EXPECT_EQ(tool("complete", gpt2({"-f", "/nonexistent"})).code, 3);
  EXPECT_EQ(tool("complete", gpt2({})).code, 2);
  EXPECT_EQ(tool("complete", gpt2({"a", "-f", text})).code, 2);
  EXPECT_EQ(tool("complete", gpt2({""})).code, 2);
}

TEST_F(Complete, PromptsThatAreNoTextAreRefused) {
  const std::string utf16 = write("utf16.txt", std::string("\xff\xfeh\0i\0", 6));
  const std::string latin = write("latin.txt", "caf\xe9");
  for (const Words& words : {Words{"-f", utf16}, Words{"-f", latin}}) {
    const auto result = tool("complete", gpt2(words));
    EXPECT_EQ(result.code, words[1] == utf16 ? 5 : 1);
    EXPECT_THAT(result.err, HasSubstr(words[1] == utf16 ? "UTF-16" : "byte 3 (0xE9"));
  }
  const auto piped = tool("complete", gpt2({"-"}), {.stdin_path = latin});
  EXPECT_EQ(piped.code, 1);
  EXPECT_THAT(piped.err, HasSubstr("standard input"));
  EXPECT_EQ(output("complete", gpt2({"-f", write("marked.txt", "\xef\xbb\xbf" + prompt_),
                                     "--max-tokens", "3"})),
            output("complete", gpt2({prompt_, "--max-tokens", "3"})));
}

TEST_F(Complete, SamplingFlags) {
  const auto sample = [&](const Words& more, const std::string& count = "12") {
    Words words = gpt2({prompt_, "--max-tokens", count, "--ignore-eos"});
    words.insert(words.end(), more.begin(), more.end());
    return ids(rows(words));
  };
  const auto greedy = sample({});
  EXPECT_EQ(sample({"--temperature", "0", "--seed", "3"}), greedy);
  const auto hot = sample({"--temperature", "1.5", "--seed", "1"});
  EXPECT_NE(hot, greedy);
  EXPECT_EQ(sample({"--temperature", "1.5", "--seed", "1", "--threads", "1"}), hot);
  EXPECT_NE(sample({"--temperature", "1.5", "--seed", "2"}), hot);
  // Each of these leaves the likeliest token alone.
  EXPECT_EQ(sample({"--temperature", "1.5", "--top-k", "1"}), greedy);
  EXPECT_EQ(sample({"--temperature", "1.5", "--top-p", "0.0001"}), greedy);
  EXPECT_EQ(sample({"--temperature", "1.5", "--min-p", "1"}), greedy);
  // Forty: the demo model repeats itself at last.
  EXPECT_NE(sample({"--repetition-penalty", "5"}, "40"), sample({}, "40"));
  for (const Words& wrong : std::vector<Words>{{"--temperature", "-1"},
                                               {"--top-k", "-1"},
                                               {"--top-p", "0"},
                                               {"--min-p", "2"},
                                               {"--repetition-penalty", "0"},
                                               {"--seed", "x"},
                                               {"--seed", "-1"},
                                               {"--max-tokens", "-1"},
                                               {"--context", "0"}}) {
    Words words = gpt2({prompt_});
    words.insert(words.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(tool("complete", words).code, 2) << wrong[0];
  }
}

TEST_F(Complete, MessagesShowWholeNumbersWhole) {
  const auto told = [&](const std::string& flag, const std::string& value) {
    return tool("complete", gpt2({prompt_, flag, value})).err;
  };
  EXPECT_THAT(told("--seed", "-1"), HasSubstr("must be 0 to 9223372036854775808, not -1"));
  EXPECT_THAT(told("--max-tokens", "2e12"), HasSubstr("must be 0 to 1099511627776, not 2e12"));
  EXPECT_THAT(told("--seed", "1.5"), HasSubstr("--seed: '1.5' is no whole number"));
  EXPECT_THAT(told("--temperature", "warm"), HasSubstr("--temperature: 'warm' is no number"));
}

TEST_F(Complete, ContextBoundsPromptAndContinuation) {
  const RunResult prompt = tool("complete", gpt2({prompt_, "--context", "3"}));
  EXPECT_EQ(prompt.code, 2);
  EXPECT_THAT(prompt.err, HasSubstr("more than the context of 3"));
  EXPECT_EQ(tool("complete", gpt2({prompt_, "--context", "513"})).code, 2);
  std::string endless;
  for (int i = 0; i < 600; ++i) endless += "word ";
  const RunResult longer = tool("complete", gpt2({endless}));
  EXPECT_EQ(longer.code, 2);
  EXPECT_THAT(longer.err, HasSubstr("more than the context of 512"));
  const auto all = rows(gpt2({prompt_, "--context", "12", "--max-tokens", "100", "--ignore-eos"}));
  const int64_t made = all.back()["tokens"], prompted = all.back()["prompt_tokens"];
  // The last token needs no place: nothing follows it.
  EXPECT_EQ(made + prompted, 13);
  EXPECT_EQ(all.back()["reason"], "context");
  EXPECT_EQ(rows(gpt2({prompt_, "--max-tokens", "0"})).back()["tokens"], 0);
}

TEST_F(Complete, EndTokensOfBothFilesEndTheText) {
  const Path model = copy_demo("gpt2");
  const auto free = ids(rows(gpt2({prompt_, "--max-tokens", "10"})));
  ASSERT_EQ(free.size(), 10u);
  // The third token becomes an end token by generation_config.json alone, as a number and in a
  // list.
  const size_t end =
      static_cast<size_t>(std::find(free.begin(), free.end(), free[2]) - free.begin());
  for (const Json& value : {Json(free[2]), Json({4095, free[2]})}) {
    write("model_gpt2/generation_config.json", Json({{"eos_token_id", value}}).dump());
    const Words words = {"--model", model.string(), prompt_, "--max-tokens", "10"};
    const auto stopped = rows(words);
    EXPECT_EQ(ids(stopped),
              std::vector<int>(free.begin(), free.begin() + static_cast<std::ptrdiff_t>(end)));
    EXPECT_EQ(stopped.back()["reason"], "eos");
    Words on = words;
    on.emplace_back("--ignore-eos");
    EXPECT_EQ(ids(rows(on)), free);
  }
  // With that file, config.json's does not count, even if the file names none.
  Json config = parse_json(read_text(model / "config.json"), "config.json");
  config["eos_token_id"] = free[2];
  write("model_gpt2/config.json", config.dump());
  const Words words = {"--model", model.string(), prompt_, "--max-tokens", "10"};
  for (const char* other : {R"({"eos_token_id": 4095})", "{}", R"({"eos_token_id": null})"}) {
    write("model_gpt2/generation_config.json", other);
    EXPECT_EQ(ids(rows(words)), free) << other;
  }
  fs::remove(model / "generation_config.json");
  EXPECT_EQ(rows(words).back()["reason"], "eos");
  config["eos_token_id"] = 4095;
  write("model_gpt2/config.json", config.dump());
  write("model_gpt2/generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_EQ(tool("complete", {"--model", model.string(), prompt_}).code, 1);
  fs::remove(model / "generation_config.json");
  EXPECT_EQ(ids(rows({"--model", model.string(), prompt_, "--max-tokens", "10"})), free);
}

TEST_F(Complete, NoSpecialLeavesTheBosAway) {
  const auto with = rows({"--model", llama_, prompt_, "--max-tokens", "1", "--echo"});
  const auto without =
      rows({"--model", llama_, prompt_, "--max-tokens", "1", "--echo", "--no-special"});
  EXPECT_EQ(with[0]["tokens"].size(), without[0]["tokens"].size() + 1);
  EXPECT_EQ(with[0]["tokens"][0], 1);
  EXPECT_EQ(with[0]["prompt"], prompt_);
  EXPECT_EQ(tool("complete", {"--model", llama_, "", "--no-special"}).code, 2);
  EXPECT_EQ(tool("complete", {"--model", llama_, "", "--max-tokens", "1"}).code,
            0);  // BOS is something to go on from
}

TEST_F(Complete, ChatUsesTheModelsTemplate) {
  const Path model = copy_demo("llama");
  Json config = parse_json(read_text(model / "tokenizer_config.json"), "tokenizer_config.json");
  config["chat_template"] =
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
      "{% if add_generation_prompt %} [answer]{% endif %}";
  write("model_llama/tokenizer_config.json", config.dump());
  const Words words = {"--model", model.string(), "Who was he?", "--max-tokens", "4", "--echo"};
  Words chat = words;
  chat.emplace_back("--chat");
  const auto result = rows(chat);
  EXPECT_EQ(result[0]["prompt"], "<s>[user] Who was he? [answer]");
  EXPECT_EQ(result[0]["tokens"][0], 1);  // BOS, once
  EXPECT_NE(result[0]["tokens"][1], 1);
  EXPECT_EQ(rows(words)[0]["prompt"], "Who was he?");
  chat.emplace_back("--no-special");
  EXPECT_EQ(tool("complete", chat).code, 2);
  EXPECT_EQ(tool("complete", {"--model", llama_, "Hello", "--chat"}).code, 3);  // has no template
}

// transformers' LlamaTokenizer brings <s> along.
TEST_F(Complete, TemplatesKnowTheTokensOfTheClass) {
  const Path model = copy_demo("llama");
  Json config = parse_json(read_text(model / "tokenizer_config.json"), "tokenizer_config.json");
  config.erase("bos_token");
  config["chat_template"] = "{{ bos_token }}{{ messages[0].content }}";
  write("model_llama/tokenizer_config.json", config.dump());
  const Words words = {"--model", model.string(), "--chat", "Hi", "--max-tokens", "1", "--echo"};
  EXPECT_EQ(rows(words)[0]["prompt"], "<s>Hi");
}

TEST_F(Complete, AWholeConversationGoesOn) {
  const Path model = copy_demo("llama");
  Json config = parse_json(read_text(model / "tokenizer_config.json"), "tokenizer_config.json");
  config["chat_template"] =
      "{% for t in tools or [] %}<{{ t.function.name }}>{% endfor %}{% for m in messages %}"
      "[{{ m.role }}] {{ m.content }}{% for c in m.tool_calls or [] %}({{ c.function.name }})"
      "{% endfor %}{{ raise_exception('no ' ~ m.role) if m.role == 'pope' }}{% endfor %}"
      "{{ ' !' if loud }}{% if add_generation_prompt %} [answer]{% endif %}";
  write("model_llama/tokenizer_config.json", config.dump());
  const auto prompt = [&](const std::string& json) {
    const Words words = {
        "--model", model.string(), "--messages", write("talk.json", json), "--max-tokens",
        "1",       "--echo"};
    return rows(words)[0]["prompt"].get<std::string>();
  };
  const std::string turns =
      R"([{"role": "user", "content": [{"type": "text", "text": "weather?"}]},
          {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "w"}}]},
          {"role": "tool", "content": "rain"}])";
  const std::string wanted = "[user] weather?[assistant] (w)[tool] rain";
  EXPECT_EQ(prompt(turns), wanted + " [answer]");
  EXPECT_EQ(prompt(R"({"tools": [{"type": "function", "function": {"name": "w"}}],
                       "chat_template_kwargs": {"loud": true}, "messages": )" +
                   turns + "}"),
            "<w>" + wanted + " ! [answer]");
  const auto refused = [&](const std::string& json, Words more = {}) {
    Words words = {"--model", model.string(), "--messages", write("talk.json", json)};
    words.insert(words.end(), more.begin(), more.end());
    return tool("complete", words);
  };
  EXPECT_EQ(refused(R"([{"role": "user", "content": [{"type": "image"}]}])").code, 5);
  EXPECT_THAT(refused(R"([{"role": "pope", "content": ""}])").err, HasSubstr("talk.json"));
  EXPECT_THAT(refused("{").err, HasSubstr("talk.json"));
  EXPECT_EQ(refused("[]").code, 2);
  EXPECT_EQ(refused(turns, {"and a prompt"}).code, 2);
  EXPECT_EQ(refused(turns, {"--chat"}).code, 2);
  EXPECT_EQ(refused(turns, {"-f", write("p.txt", "x")}).code, 2);
  const Words piped = {model.string(), "--messages", "-", "--max-tokens", "1", "--echo"};
  EXPECT_THAT(output("complete", piped, {.stdin_path = write("talk.json", turns)}),
              StartsWith(wanted + " [answer]"));
}

TEST_F(Complete, StatsAndQuiet) {
  const RunResult stats =
      tool("complete", gpt2({prompt_, "--max-tokens", "5", "--ignore-eos", "--stats"}));
  EXPECT_THAT(stats.err, HasSubstr("prefill "));
  EXPECT_THAT(stats.err, HasSubstr("decode 4 tokens"));
  EXPECT_EQ(tool("complete", gpt2({prompt_, "--max-tokens", "5", "-q"})).err, "");
}

TEST_F(Complete, TheModelNobodyNamed) {
  const RunResult plain = tool("complete", {prompt_, "--max-tokens", "1"});
  EXPECT_EQ(plain.code, 0);
  EXPECT_THAT(plain.err, HasSubstr("demo/llama (the demo"));
  EXPECT_THAT(
      tool("complete", {prompt_, "--max-tokens", "1"}, {.environment = {{"QWB_MODEL", gpt2_}}}).err,
      HasSubstr("from QWB_MODEL"));
  const std::string artifact = output("quantize", {"--model", gpt2_, "--method", "int8"});
  const RunResult newest = tool("complete", {prompt_, "--max-tokens", "1"});
  EXPECT_EQ(newest.code, 0);
  EXPECT_THAT(newest.err, HasSubstr(artifact + " (the newest in the cache"));
  EXPECT_EQ(tool("complete", {"--model", "/nonexistent", prompt_}).code, 3);
}

TEST_F(Complete, CtrlCKeepsTheTextSoFar) {
  RunOptions options;
  options.environment["QWB_MODEL"] = llama_;
  options.signals = {SIGINT};
  options.ready = "from QWB_MODEL";
  const RunResult result = tool("complete",
                                {prompt_, "--ignore-eos", "--max-tokens", "1000", "--echo",
                                 "--context", "1024", "--temperature", "1"},
                                options);
  EXPECT_EQ(result.code, 130);
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
  if (!result.out.empty()) {
    EXPECT_THAT(result.out, StartsWith(prompt_));
    EXPECT_EQ(result.out.back(), '\n');
  }
}

TEST_F(Complete, Int8ForwardIsChosenAndNamed) {
  const std::string artifact = file("int8").string();
  make_artifact(demo("gpt2"), "int8", artifact, gpt2_);
  const auto run_with = [&](Words flags) {
    flags.insert(flags.end(), {"--model", artifact, "--max-tokens", "8", prompt_});
    return flags;
  };
  EXPECT_EQ(rows(run_with({})).back()["int8_forward"], Json({{"name", "dequantize"}}));
  const Json last = rows(run_with({"--int8", "decompose"})).back();
  EXPECT_EQ(last["int8_forward"], Json({{"name", "LLM.int8"}, {"threshold", 6.0}}));
  EXPECT_EQ(last["tokens"], 8);
  EXPECT_EQ(rows(run_with({"--int8-threshold", "0", "--threads", "1"}))
                .back()["int8_forward"]["threshold"],
            0.0);
  EXPECT_THAT(tool("complete", run_with({"--int8", "decompose"})).err,
              HasSubstr("int8 forward: LLM.int8, threshold 6"));
  const RunResult wrong = tool("complete", gpt2({prompt_, "--int8", "decompose"}));
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("needs modules stored as int8"));
}

}  // namespace
}  // namespace qwb::testing
