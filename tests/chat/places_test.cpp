// Where a chat template and its special tokens come from, as AutoTokenizer of transformers 5.24
// takes them (expected values are what its apply_chat_template gave).
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "lib/base/error.h"
#include "lib/chat/chat_template.h"

namespace qwb {
namespace {

class TemplatePlaces : public testing::Test {
 protected:
  TemplatePlaces() { clear(); }
  ~TemplatePlaces() override { std::filesystem::remove_all(folder_); }
  void clear() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ / "additional_chat_templates");
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
  }
  void config(const Json& json) const { write("tokenizer_config.json", json.dump()); }
  // "refused" where no template can be chosen.
  std::string rendered(const Json& tools = nullptr) const {
    try {
      ChatTemplate::Options options;
      options.tools = tools;
      return ChatTemplate::load(folder_).render({{{"role", "user"}, {"content", "a"}}}, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::not_found) << error.what();
      return "refused";
    }
  }
  const Json tools_ = {{{"type", "function"}, {"function", {{"name", "f"}}}}};

 private:
  const Path folder_ = Path(testing::TempDir()) / ("qwb_places_" + std::to_string(::getpid()));
};

TEST_F(TemplatePlaces, AListOrAnObjectHasTemplatesByName) {
  const Json list = {{{"name", "default"}, {"template", "D"}},
                     {{"name", "tool_use"}, {"template", "U"}}};
  for (const Json& several : {list, Json({{"default", "D"}, {"tool_use", "U"}})}) {
    config({{"chat_template", several}});
    EXPECT_EQ(rendered(), "D");
    EXPECT_EQ(rendered(tools_), "U");
    EXPECT_EQ(rendered(Json::array()), "U");  // an empty list is a list
  }
  config({{"chat_template", Json::array({list[1]})}});
  EXPECT_EQ(rendered(), "refused");
  EXPECT_EQ(rendered(tools_), "U");
}

TEST_F(TemplatePlaces, FilesStandInPlaceOfTheConfiguration) {
  const Json list = {{{"name", "default"}, {"template", "D"}},
                     {{"name", "tool_use"}, {"template", "U"}}};
  config({{"chat_template", list}});
  write("chat_template.jinja", "J");
  EXPECT_EQ(rendered(), "J");
  EXPECT_EQ(rendered(tools_), "J");
  write("additional_chat_templates/tool_use.jinja", "A");
  EXPECT_EQ(rendered(), "J");
  EXPECT_EQ(rendered(tools_), "A");
  clear();
  config({{"chat_template", "C"}});
  write("additional_chat_templates/tool_use.jinja", "A");
  EXPECT_EQ(rendered(), "refused");
  EXPECT_EQ(rendered(tools_), "A");
}

TEST_F(TemplatePlaces, AProcessorsTemplateIsTheLastResort) {
  write("chat_template.json", R"({"chat_template": "K"})");
  EXPECT_EQ(rendered(), "K");
  config({{"chat_template", "C"}});
  EXPECT_EQ(rendered(), "C");
}

TEST_F(TemplatePlaces, SpecialTokensHaveTheirNames) {
  const auto shown = [&](Json settings, const std::string& text) {
    settings["chat_template"] = text;
    config(settings);
    return rendered();
  };
  EXPECT_EQ(shown({{"image_token", "<i>"}}, "{{ image_token }}"), "<i>");
  EXPECT_EQ(shown({{"extra_special_tokens", {{"image_token", "<i>"}}}}, "{{ image_token }}"),
            "<i>");
  EXPECT_EQ(shown({{"model_specific_special_tokens", {{"boi_token", "<b>"}}}}, "{{ boi_token }}"),
            "<b>");
  EXPECT_EQ(shown({{"bos_token", {{"content", "<s>"}, {"lstrip", false}}}, {"pad_token", nullptr}},
                  "{{ bos_token }}|{{ pad_token }}"),
            "<s>|");
}

// Those of the tokenizer's class, where the configuration names none.
TEST(TemplateNames, OfTheClassCountWhereNoneIsGiven) {
  auto chat =
      ChatTemplate::from_text("{{ bos_token }}|{{ unk_token }}", Json{{"unk_token", "U"}}, "test");
  const Json turns = {{{"role", "user"}, {"content", "a"}}};
  EXPECT_EQ(chat.render(turns, {}), "|U");
  chat.name_tokens({{"bos_token", "<s>"}, {"unk_token", "<unk>"}});
  EXPECT_EQ(chat.render(turns, {}), "<s>|U");
}

// Keys whose value is null are absent (transformers drops them first).
TEST(ChatMessages, NullIsAbsent) {
  const auto chat = ChatTemplate::from_text(
      "{% for m in messages %}{{ m.keys() | join(',') }}:{{ m.content }};{% endfor %}", nullptr,
      "test");
  const Json turns = parse_json(
      R"([{"role": "user", "content": "a", "name": null},
          {"role": "assistant", "content": null, "tool_calls": null, "refusal": null}])",
      "test");
  EXPECT_EQ(chat.render(turns, {}), "role,content:a;role:;");
}

}  // namespace
}  // namespace qwb
