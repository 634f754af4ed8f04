// What can be done to a conversation, and the file that keeps it.
#include "lib/jobs/chat/dialogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

Dialogue two_turns() {
  Dialogue dialogue;
  dialogue.set_system("Be brief.");
  dialogue.ask("one");
  dialogue.answer("first", "hm", true);
  dialogue.ask("two");
  dialogue.answer("second", "", false);
  return dialogue;
}

std::string texts(const Dialogue& dialogue) {
  std::string all;
  for (const Json& message : dialogue.messages())
    all += message["role"].get<std::string>().substr(0, 1) + ":" +
           message["content"].get<std::string>() + " ";
  return all;
}

TEST(Dialogue, GoesBackAndOn) {
  Dialogue dialogue = two_turns();
  EXPECT_EQ(texts(dialogue), "s:Be brief. u:one a:first u:two a:second ");
  EXPECT_TRUE(dialogue.is_cut(2));
  EXPECT_FALSE(dialogue.waits());
  EXPECT_TRUE(dialogue.take_back_answer());
  EXPECT_TRUE(dialogue.waits());
  EXPECT_EQ(texts(dialogue), "s:Be brief. u:one a:first u:two ");
  EXPECT_EQ(dialogue.undo(), "two");
  EXPECT_EQ(dialogue.undo(), "one");
  EXPECT_EQ(dialogue.undo(), std::nullopt);
  EXPECT_FALSE(dialogue.take_back_answer());
  EXPECT_TRUE(dialogue.cut().empty());
  EXPECT_EQ(texts(dialogue), "s:Be brief. ");
}

TEST(Dialogue, EditsForgetWhatFollows) {
  Dialogue dialogue = two_turns();
  EXPECT_EQ(dialogue.question(1), "one");
  dialogue.edit(1, "uno");
  EXPECT_EQ(texts(dialogue), "s:Be brief. u:uno ");
  EXPECT_THROW(dialogue.edit(2, "x"), Error);
  dialogue = two_turns();
  dialogue.edit(2, "due");
  EXPECT_EQ(texts(dialogue), "s:Be brief. u:one a:first u:due ");
  EXPECT_TRUE(dialogue.is_cut(2));
  dialogue.clear();
  EXPECT_EQ(texts(dialogue), "s:Be brief. ");
}

TEST(Dialogue, TheSystemMessageComesFirst) {
  Dialogue dialogue = two_turns();
  dialogue.set_system("");
  EXPECT_EQ(dialogue.system(), std::nullopt);
  EXPECT_TRUE(dialogue.is_cut(1));  // the same message
  dialogue.set_system("Rhyme.");
  EXPECT_EQ(dialogue.system(), "Rhyme.");
  EXPECT_TRUE(dialogue.is_cut(2));
  dialogue.set_system("Sing.");
  EXPECT_EQ(texts(dialogue), "s:Sing. u:one a:first u:two a:second ");
}

TEST(Dialogue, FilesGiveBackWhatTheyWereMadeOf) {
  SavedChat chat;
  chat.parts.push_back({"llama", two_turns()});
  chat.parts.push_back({"llama-nf4", two_turns()});
  chat.parts[1].dialogue.undo();
  chat.parts[0].dialogue.set_tools(Json::array({{{"type", "function"}}}));
  chat.parts[0].dialogue.set_variable("enable_thinking", false);
  ChatSettings settings;
  settings.sampling.temperature = 0.7;
  settings.sampling.seed = ~uint64_t{0} >> 1;
  settings.stop = {"###"};
  settings.ignore_eos = true;
  chat.settings = chat_settings_json(settings);
  const std::string text = chat_text(chat);
  const SavedChat again = parse_chat(text, "file");
  EXPECT_EQ(chat_text(again), text);
  ASSERT_EQ(again.parts.size(), 2u);
  EXPECT_EQ(again.parts[0].dialogue.messages(), chat.parts[0].dialogue.messages());
  EXPECT_EQ(again.parts[0].dialogue.cut(), chat.parts[0].dialogue.cut());
  EXPECT_EQ(again.parts[1].dialogue.questions(), 1);
  ChatSettings read;
  read_chat_settings(again.settings, read, "file");
  EXPECT_EQ(chat_settings_json(read), chat.settings);
}

TEST(Dialogue, FilesThatAreNotUnderstoodAreRefused) {
  const auto kind = [](const std::string& text) {
    try {
      parse_chat(text, "talk.json");
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("talk.json"));
      return error.exit_code();
    }
    return 0;
  };
  const std::string messages = R"("messages": [{"role": "user", "content": "a"},
                                               {"role": "assistant", "content": "b"}])";
  EXPECT_EQ(kind("{" + messages + "}"), 0);
  EXPECT_EQ(kind(R"([{"role": "user", "content": "a"}])"), 0);
  EXPECT_EQ(kind("{" + messages + R"(, "mesages": []})"), 5);
  EXPECT_EQ(kind("{" + messages + R"(, "settings": {"typical_p": 0.5}})"), 5);
  EXPECT_EQ(kind("{" + messages + R"(, "settings": {"top_p": 2}})"), 2);
  EXPECT_EQ(kind("{" + messages + R"(, "cut": [0]})"), 1);  // a user's message
  EXPECT_EQ(kind("{" + messages + R"(, "cut": [1]})"), 0);
  EXPECT_EQ(kind("{" + messages + R"(, "others": [{"settings": {}}]})"), 5);
  EXPECT_EQ(kind(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})"), 5);
  EXPECT_EQ(kind("{}"), 1);
  EXPECT_EQ(kind("{"), 1);
}

}  // namespace
}  // namespace qwb
