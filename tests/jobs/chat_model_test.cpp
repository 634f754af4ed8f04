// A model in conversations, and where two models part. The demo llama with a template of the test.
#include "lib/jobs/chat/chat_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "lib/base/error.h"
#include "lib/jobs/chat/departure.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kTemplate =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {{ '<think>\n' if enable_thinking }}{% endif %}";

class SlowChats : public ::testing::Test {
 protected:
  SlowChats() : scratch_("chats") {}
  ChatModel open(const std::string& source = kTemplate) const {
    const Path folder = scratch_.path() / "model";
    fs::remove_all(folder);
    fs::copy(demo("llama"), folder, fs::copy_options::recursive);
    std::ofstream(folder / "chat_template.jinja") << source;
    Context context;
    context.threads = Threads(2);
    return ChatModel("demo", load_model(folder, {}, context));
  }
  static Dialogue asked(const std::string& text) {
    Dialogue dialogue;
    dialogue.ask(text);
    return dialogue;
  }
  static std::string long_text() {
    std::string text;
    for (int i = 0; i < 35; ++i) text += "The sun rose over the hill and the river. ";
    return text;
  }
  static ChatSettings brief(int64_t tokens) {
    ChatSettings settings;
    settings.max_tokens = tokens;
    settings.ignore_eos = true;
    return settings;
  }

  Scratch scratch_;
};

TEST_F(SlowChats, AnswersDoNotDependOnWhatWasSaidBefore) {
  ChatModel model = open(), fresh = open();
  ChatSettings settings = brief(12);
  settings.sampling = {.temperature = 1, .seed = 3};
  Dialogue dialogue = asked(long_text());
  const Answer first = model.answer(dialogue, settings, {}, {});
  EXPECT_EQ(first.reused, 0);
  dialogue.answer(first.content, "", false);
  dialogue.ask("And then?");
  const Answer second = model.answer(dialogue, settings, {}, {});
  EXPECT_GE(second.reused, 256);
  const Answer anew = fresh.answer(dialogue, settings, {}, {});
  EXPECT_EQ(anew.reused, 0);
  EXPECT_EQ(second.tokens, anew.tokens);
  EXPECT_EQ(second.prompt, anew.prompt);
  EXPECT_EQ(second.prompt[0], 1);  // the template's BOS, once
  EXPECT_NE(second.prompt[1], 1);
  for (const int64_t index : {7, 0})
    EXPECT_EQ(model.probabilities_at(second, index, {}), fresh.probabilities_at(anew, index, {}));
}

TEST_F(SlowChats, EndWhereTheyShould) {
  ChatModel model = open();
  const Dialogue dialogue = asked("The history of the city");
  const Answer whole = model.answer(dialogue, brief(30), {}, {});
  EXPECT_EQ(whole.finish, FinishReason::length);
  ASSERT_EQ(whole.tokens.size(), 30u);
  ChatSettings settings = brief(30);
  settings.stop = {whole.content.substr(20, 3)};
  std::string told;
  const AnswerListener listener = {.on_part = [&](const AnswerPart& part) { told += part.text; }};
  const Answer stopped = model.answer(dialogue, settings, listener, {});
  EXPECT_EQ(stopped.finish, FinishReason::stop);
  EXPECT_EQ(stopped.content, whole.content.substr(0, whole.content.find(settings.stop[0])));
  EXPECT_EQ(told, stopped.content);
  settings = brief(0);
  settings.context = std::ssize(whole.prompt) + 4;
  const Answer full = model.answer(dialogue, settings, {}, {});
  EXPECT_EQ(full.finish, FinishReason::context);
  EXPECT_EQ(full.tokens.size(), 5u);  // the last one needs no place
  settings.context = std::ssize(whole.prompt) - 1;
  EXPECT_THROW(model.answer(dialogue, settings, {}, {}), Error);
  StopSource stop;
  const AnswerListener stopper = {.on_token = [&](int32_t) { stop.request(); }};
  const Answer cut = model.answer(dialogue, brief(30), stopper, stop.token());
  EXPECT_EQ(cut.finish, FinishReason::cut);
  EXPECT_THAT(cut.tokens, ElementsAre(whole.tokens[0]));
}

TEST_F(SlowChats, ThinkingIsSwitchedByTheTemplatesOwnVariable) {
  ChatModel model = open();
  EXPECT_EQ(model.thinking_variable(), "enable_thinking");
  Dialogue dialogue = asked("Hello");
  dialogue.set_variable("enable_thinking", true);
  EXPECT_THAT(model.prompt_text(dialogue), HasSubstr("<think>"));
  const Answer answer = model.answer(dialogue, brief(6), {}, {});
  EXPECT_EQ(answer.content, "");
  EXPECT_NE(answer.reasoning, "");
  const ChatModel other = open("{{ messages[0].content }}{# enable_thinking #}");
  EXPECT_THROW(other.thinking_variable(), Error);
}

TEST_F(SlowChats, WhatTheTemplateLeavesOutIsRefused) {
  const ChatModel model = open();
  Dialogue dialogue = asked("Hello");
  dialogue.set_system("Be brief.");
  model.check_shown(dialogue);
  dialogue.set_tools(Json::array({{{"type", "function"}}}));
  EXPECT_THROW(model.check_shown(dialogue), Error);
  const ChatModel deaf = open(
      "{% for m in messages if m.role != 'system' %}{{ m.content }}"
      "{% endfor %}{{ tools }}");
  Dialogue with_tools = asked("Hello");
  with_tools.set_tools(Json::array({{{"type", "function"}}}));
  deaf.check_shown(with_tools);
  with_tools.set_system("Be brief.");
  EXPECT_THROW(deaf.check_shown(with_tools), Error);
  EXPECT_THAT(model.special_tokens_in("a </s> b"), ElementsAre("</s>"));
  EXPECT_TRUE(model.special_tokens_in("a b").empty());
}

TEST_F(SlowChats, DeparturesAreFoundWithBothProbabilities) {
  ChatModel base = open(), other = open();
  const Dialogue dialogue = asked("The history of the city");
  const ChatSettings settings = brief(10);
  const Answer first = base.answer(dialogue, settings, {}, {});
  Answer second = other.answer(dialogue, settings, {}, {});
  Comparison same = compare_answers(base, first, other, second, settings, {});
  EXPECT_FALSE(same.departure);
  EXPECT_EQ(same.equal, 10);
  EXPECT_EQ(comparison_text(same, "demo"), "no departure from demo in 10 tokens");
  const std::vector<double> p = base.probabilities_at(first, 6, {});
  second.tokens[6] = second.tokens[6] == 300 ? 301 : 300;
  const Comparison differ = compare_answers(base, first, other, second, settings, {});
  ASSERT_TRUE(differ.departure);
  EXPECT_EQ(differ.departure->index, 6);
  EXPECT_EQ(differ.departure->base_probability, p[first.tokens[6]]);
  EXPECT_EQ(differ.departure->other_probability, p[second.tokens[6]]);
  EXPECT_GT(differ.departure->base_probability, differ.departure->other_probability);
  EXPECT_THAT(comparison_text(differ, "demo"), HasSubstr("departs from demo at token 7: '"));
  ChatSettings random = settings;
  random.sampling.temperature = 1;
  EXPECT_THAT(compare_answers(base, first, other, second, random, {}).reason, HasSubstr("random"));
  second.prompt.push_back(5);
  EXPECT_THAT(compare_answers(base, first, other, second, settings, {}).reason,
              HasSubstr("before this answer"));
}

}  // namespace
}  // namespace qwb::testing
