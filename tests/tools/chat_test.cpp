// qwb-chat through pipes and on a terminal, as a user runs it. The demo llama with a template of
// the test.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <regex>

#include "lib/base/file.h"
#include "tests/tools/terminal_helper.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ChatWords = std::vector<std::string>;

constexpr const char* kDemoTemplate =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{{ ' <think>' if enable_thinking }}{% endif %}";

class Chat : public ToolTest {
 protected:
  Chat() : model_(copy_demo("llama").string()) {
    write("model_llama/chat_template.jinja", kDemoTemplate);
  }
  ChatWords words(const ChatWords& more, const std::string& tokens = "8") const {
    ChatWords all = {"--model", model_, "--ignore-eos", "--max-tokens", tokens};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::vector<Json> events(ChatWords more) const {
    more.emplace_back("--json");
    std::vector<Json> all;
    for (const std::string& line : lines(output("chat", words(more))))
      all.push_back(parse_json(line, "event"));
    return all;
  }
  Json saved(const std::string& name = "talk.json") const {
    return parse_json(read_text(file(name)), name);
  }

  const std::string model_;
};

TEST_F(Chat, OneAnswerIsAllThatStandardOutputGets) {
  const std::string answer = output("chat", words({"-p", "The city"}));
  EXPECT_NE(answer, "");
  const RunResult piped =
      tool("chat", words({}), {.stdin_path = write("prompt.txt", "The city\n")});
  EXPECT_EQ(piped.out, answer + "\n");
  EXPECT_EQ(piped.err.find("tokens/s"), std::string::npos);
  EXPECT_EQ(output("chat", words({"-f", file("prompt.txt").string()})), answer);
  // What complete says of the same conversation.
  EXPECT_EQ(output("complete",
                   {"--model", model_, "--chat", "The city", "--ignore-eos", "--max-tokens", "8"}),
            answer);
  const auto joined =
      tool("chat", words({"-p", "The city", "-", "--save", file("j.json").string()}),
           {.stdin_path = write("more.txt", "is old\n")});
  EXPECT_EQ(joined.code, 0) << joined.err;
  EXPECT_EQ(saved("j.json")["messages"][0]["content"], "The city\n\nis old");
  const RunResult stats = tool("chat", words({"-p", "The city", "--stats", "--energy"}));
  EXPECT_THAT(stats.err, HasSubstr("8 tokens, "));
  EXPECT_TRUE(std::regex_search(stats.err, std::regex("J \\([a-z-]+\\)|energy n/a"))) << stats.err;
}

TEST_F(Chat, WhatMakesNoSenseIsRefused) {
  const auto code = [&](const ChatWords& more) { return tool("chat", words(more)).code; };
  EXPECT_EQ(code({}), 2);  // nothing on standard input
  EXPECT_EQ(code({"-p", ""}), 2);
  EXPECT_EQ(code({"-p", "x", "word"}), 2);
  EXPECT_EQ(code({"-p", "x", "--temperature", "-1"}), 2);
  EXPECT_EQ(code({"-p", "x", "--stop", ""}), 2);
  EXPECT_EQ(code({"-p", "x", "--context", "4096"}), 2);
  EXPECT_EQ(code({"-p", "x", "--context", "3"}), 2);
  EXPECT_EQ(code({"-p", "x", "--watts", "5"}), 2);
  EXPECT_EQ(code({"-p", "x", "--bits", "5"}), 2);
  EXPECT_EQ(code({"-p", "x", "--load", write("bad.json", R"({"messages": [], "x": 1})")}), 5);
  EXPECT_EQ(code({"-p", "x", "--tools", write("tools.json", "[{}]")}), 5);
  EXPECT_EQ(code({"-p", "x", "--save", model_ + "/config.json"}), 2);
  EXPECT_EQ(tool("chat", {"--model", llama_, "-p", "x"}).code, 3);  // no template
}

TEST_F(Chat, ConversationsAreKeptAndGoOn) {
  const std::string talk = file("talk.json").string();
  const std::string first =
      output("chat", words({"-p", "The city", "--system", "Be brief.", "--save", talk,
                            "--temperature", "0.5", "--seed", "4"}));
  const Json one = saved();
  ASSERT_EQ(one["messages"].size(), 3u);
  EXPECT_EQ(one["messages"][2]["content"], first);
  EXPECT_EQ(one["settings"]["seed"], 4);
  EXPECT_EQ(tool("chat", words({"-p", "x", "--save", talk})).code, 2);  // it is there
  output("chat", {"--model", model_, "--load", talk, "-p", "And then?", "--save", talk});
  const Json two = saved();
  ASSERT_EQ(two["messages"].size(), 5u);
  EXPECT_EQ(two["settings"], one["settings"]);
  // The same answer again from the beginning of the file.
  Json again = two;
  again["messages"].erase(4);
  EXPECT_EQ(output("chat", {"--model", model_, "--load", write("again.json", again.dump())}),
            two["messages"][4]["content"]);
}

TEST_F(Chat, EventsAreOneALine) {
  const auto all = events({"-p", "The city", "--think"});
  std::string text;
  for (size_t i = 0; i + 1 < all.size(); ++i) {
    EXPECT_EQ(all[i]["event"], "text");
    EXPECT_EQ(all[i]["kind"], "reasoning");
    text += all[i]["text"];
  }
  const Json& last = all.back();
  EXPECT_EQ(last["event"], "answer");
  EXPECT_EQ(last["reasoning"], text);
  EXPECT_EQ(last["content"], "");
  EXPECT_EQ(last["finish"], "length");
  EXPECT_EQ(last["ids"].size(), 8u);
  EXPECT_EQ(last["settings"]["temperature"], 0);
}

TEST_F(Chat, SeveralModelsAnswerAndTheDepartureIsTold) {
  const std::string artifact = file("nf4").string();
  make_artifact(model_, "nf4", artifact, model_);
  const RunResult result =
      tool("chat", words({"--model", artifact, "-p", "The history of the city", "--json"}, "40"));
  ASSERT_EQ(result.code, 0) << result.err;
  std::vector<Json> answers;
  for (const std::string& line : lines(result.out)) {
    const Json event = parse_json(line, "event");
    if (event["event"] == "answer") answers.push_back(event);
  }
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_FALSE(answers[0].contains("comparison"));
  const std::vector<int> a = answers[0]["ids"], b = answers[1]["ids"];
  const Json departure = answers[1]["comparison"]["departure"];
  ASSERT_FALSE(departure.is_null()) << answers[1]["comparison"];
  const auto at = std::ranges::mismatch(a, b).in1 - a.begin();
  EXPECT_EQ(departure["index"], at);
  EXPECT_EQ(departure["base"]["token"], a[static_cast<size_t>(at)]);
  EXPECT_GE(departure["base"]["probability"], departure["other"]["probability"]);
  EXPECT_THAT(result.err, HasSubstr("departs from " + model_ + " at token "));
}

TEST_F(Chat, BitsQuantizeOnceAndTakeWhatIsKept) {
  const ChatWords ask = {"--model", model_, "--bits", "8", "-p", "The city", "--max-tokens", "4"};
  const RunResult made = tool("chat", ask), kept = tool("chat", ask);
  EXPECT_THAT(made.err, HasSubstr("8 bits: int8"));
  EXPECT_THAT(kept.err, HasSubstr("from the cache"));
  EXPECT_EQ(made.out, kept.out);
  EXPECT_EQ(cache_content().size(), 1u);
  const ChatWords complete = {model_, "The city", "--bits", "16", "--max-tokens", "4"};
  EXPECT_EQ(output("complete", complete),
            output("complete", {model_, "The city", "--max-tokens", "4"}));
  EXPECT_EQ(cache_content().size(), 1u);  // as it is
  EXPECT_EQ(tool("complete", {cache_content()[0] + "/data", "x", "--bits", "4"}).code, 2);
}

class ChatTerminal : public Chat {
 protected:
  static bool prompt(TerminalRun& run) { return run.see("[?2004h") && run.see(">"); }
  TerminalRun start(const ChatWords& more, const std::string& tokens = "8",
                    const std::map<std::string, std::string>& environment = {}) const {
    ChatWords command = {QWB_BIN_DIR "/qwb-chat"};
    const ChatWords all = words(more, tokens);
    command.insert(command.end(), all.begin(), all.end());
    std::map<std::string, std::string> variables = {{"QWB_CACHE", cache().string()},
                                                    {"XDG_STATE_HOME", file("state").string()},
                                                    {"HOME", scratch_.path().string()},
                                                    {"TERM", "xterm"},
                                                    {"NO_COLOR", ""},
                                                    {"HF_HUB_OFFLINE", "1"}};
    for (const auto& [name, value] : environment) variables[name] = value;
    return {command, variables};
  }
};

TEST_F(ChatTerminal, CtrlCStopsAnAnswerClearsALineAndLeaves) {
  TerminalRun run = start({"--no-history", "--save", file("talk.json").string()}, "900");
  ASSERT_TRUE(prompt(run)) << run.output();
  run.type("The city\r");
  ASSERT_TRUE(run.see_more(60)) << run.output();
  run.type("\x03");
  ASSERT_TRUE(run.see("[cut]")) << run.output();
  ASSERT_TRUE(prompt(run)) << run.output();
  const Json talk = saved();
  EXPECT_EQ(talk["cut"], Json::array({1}));
  EXPECT_NE(talk["messages"][1]["content"], "");
  run.type("half a line");
  ASSERT_TRUE(run.see("half a line")) << run.output();
  run.type("\x03");
  ASSERT_TRUE(prompt(run)) << run.output();
  EXPECT_THAT(run.output(), Not(HasSubstr("once more")));
  run.type("\x03");
  ASSERT_TRUE(run.see("once more")) << run.output();
  ASSERT_TRUE(prompt(run)) << run.output();
  run.type("\x03");
  EXPECT_EQ(run.end(), 0);
  EXPECT_EQ(saved(), talk);
}

TEST_F(ChatTerminal, CommandsChangeTheConversation) {
  TerminalRun run = start({"--save", file("talk.json").string()}, "4");
  const auto type = [&](const std::string& line, const std::string& answer) {
    run.type(line + "\r");
    EXPECT_TRUE(run.see(answer) && prompt(run)) << line << "\n" << run.output();
  };
  ASSERT_TRUE(prompt(run)) << run.output();
  type("The city", "4 tokens, ");
  type("/nosuch", "there is no command /nosuch");
  type("/help", "/regen");
  type("/set temperature 0.9", "");
  type("/regen 7", "4 tokens, ");
  type("/set typical-p 1", "'typical_p' is not known");
  run.type("\"\"\"two\r");
  EXPECT_TRUE(run.see("...")) << run.output();
  type("lines\"\"\"", "4 tokens, ");
  type("/undo", "taken back: two lines");
  type("/system Be brief.", "");
  type("/stats", "3 answers");
  run.type("\x04");
  EXPECT_EQ(run.end(), 0);
  const Json talk = saved();
  ASSERT_EQ(talk["messages"].size(), 3u);
  EXPECT_EQ(talk["messages"][0]["content"], "Be brief.");
  EXPECT_EQ(talk["settings"]["seed"], 7);
}

TEST_F(ChatTerminal, APasteOfFiftyLinesIsOneMessageAndIsKeptPrivately) {
  std::string paste;
  for (int i = 0; i < 50; ++i)
    paste += (i > 0 ? "\r" : "") + std::string("line ") + std::to_string(i);
  TerminalRun run = start({"--save", file("talk.json").string()}, "2", {{"NO_COLOR", "1"}});
  ASSERT_TRUE(prompt(run)) << run.output();
  run.type("\x1b[200~" + paste + "\x1b[201~\r");
  ASSERT_TRUE(run.see("2 tokens, ")) << run.output();
  ASSERT_TRUE(prompt(run)) << run.output();
  run.type("/bye\r");
  EXPECT_EQ(run.end(), 0);
  std::ranges::replace(paste, '\r', '\n');
  ASSERT_EQ(saved()["messages"].size(), 2u);
  EXPECT_EQ(saved()["messages"][0]["content"], paste);
  EXPECT_FALSE(std::regex_search(run.output(), std::regex("\x1b\\[[0-9;]*m"))) << run.output();
  const Path history = file("state") / "qwb" / "chat_history";
  struct stat status {};
  ASSERT_EQ(stat(history.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(lines(read_text(history)), (ChatWords{Json(paste).dump(), "\"/bye\""}));
}

}  // namespace
}  // namespace qwb::testing
