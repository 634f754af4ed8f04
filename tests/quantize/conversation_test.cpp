// Rows of the shapes that data sets have, and what of them reaches a template.
#include "lib/quantize/calibrate/conversation.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "lib/base/error.h"
#include "lib/chat/chat_template.h"
#include "lib/quantize/calibrate/calibration.h"

namespace qwb {
namespace {

Json conversation_json(const std::string& text) {
  return parse_json(text, "test");
}

std::string plain(const std::string& row) {
  return conversation_text(read_conversation(conversation_json(row), "rows.jsonl line 7"));
}

// Roles and contents, one after the other.
std::string turns_of(const std::string& row) {
  std::string text;
  const Conversation conversation = read_conversation(conversation_json(row), "rows.jsonl line 7");
  for (const Json& message : conversation.messages)
    text += message["role"].get<std::string>() + ":" +
            (message.contains("content") ? message["content"].dump() : "-") + " ";
  return text;
}

TEST(Conversation, CommonShapes) {
  const std::string wanted = "user:\"q\" assistant:\"a\" ";
  for (
      const char* row :
      {R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})",
       R"({"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})",
       R"({"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})",
       R"({"conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]})",
       R"({"conversations": [{"from": "human", "content": "q"}, {"role": "gpt", "value": "a"}]})",
       R"({"conversation": ["q", "a"]})", R"({"dialog": ["q", "a"], "act": [1]})",
       R"({"prompt": "q", "completion": "a"})", R"({"prompt": "q", "response": "a"})",
       R"({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]})",
       R"({"prompt": "q", "chosen": "a", "rejected": "b"})",
       R"({"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})",
       R"({"instruction": "q", "input": "", "output": "a"})",
       R"({"instruction": "q", "context": null, "response": "a"})",
       R"({"question": "q", "answer": "a"})", R"({"query": "q", "response": "a"})",
       R"({"input": "q", "output": "a"})",
       R"({"prompt": "x", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})"})
    EXPECT_EQ(turns_of(row), wanted) << row;
  EXPECT_EQ(turns_of(R"({"instruction": "q", "input": "more", "output": "a"})"),
            "user:\"q\\n\\nmore\" assistant:\"a\" ");
  EXPECT_EQ(
      turns_of(
          R"({"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "observation", "value": "o"}]})"),
      "system:\"s\" user:\"q\" tool:\"o\" ");
}

// What stands beside a question belongs to it; what no text can stand for is refused.
TEST(Conversation, NothingBesideTheTurnsIsLost) {
  EXPECT_EQ(turns_of(R"({"question": "q", "context": "c", "answer": "a"})"),
            "user:\"q\\n\\nc\" assistant:\"a\" ");
  EXPECT_EQ(turns_of(R"({"instruction": "q", "output": "a", "history": [["h", "i"]]})"),
            "user:\"h\" assistant:\"i\" user:\"q\" assistant:\"a\" ");
  const std::string turns = R"("messages": [{"role": "user", "content": "q"}])";
  const Conversation conversation = read_conversation(
      conversation_json(R"({"documents": [{"title": "t"}], )" + turns + "}"), "rows.jsonl line 7");
  EXPECT_EQ(conversation.variables["documents"][0]["title"], "t");
  for (const char* media :
       {R"("images": ["x.png"])", R"("video": "x.mp4")", R"("image": {"a": 1})"})
    EXPECT_THROW(read_conversation(conversation_json("{" + std::string(media) + ", " + turns + "}"),
                                   "rows.jsonl line 7"),
                 Error)
        << media;
  EXPECT_EQ(turns_of(R"({"images": [], "image": null, )" + turns + "}"), "user:\"q\" ");
}

TEST(Conversation, ContentNullAbsentAndInParts) {
  const std::string calls =
      R"("tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}])";
  EXPECT_EQ(
      plain(
          R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, )" +
          calls + R"(}, {"role": "assistant", )" + calls +
          R"(}, {"role": "tool", "content": "r"}]})"),
      "q\n\nr");
  EXPECT_EQ(
      plain(
          R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]})"),
      "ab");
}

void expect_conversation_error(const std::string& row, ErrorKind kind, const std::string& part) {
  try {
    read_conversation(conversation_json(row), "rows.jsonl line 7");
    ADD_FAILURE() << row;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("rows.jsonl line 7"), std::string::npos)
        << error.what();
  }
}

TEST(Conversation, RefusesByName) {
  expect_conversation_error(
      R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]})",
      ErrorKind::unsupported, "image_url");
  expect_conversation_error(
      R"({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]})",
      ErrorKind::unsupported, "input_audio");
  expect_conversation_error(R"({"conversations": [{"from": "function_call", "value": "{}"}]})",
                            ErrorKind::unsupported, "function_call");
  expect_conversation_error(
      R"({"messages": [{"role": "user", "content": "q"}], "functions": [{"name": "f"}]})",
      ErrorKind::unsupported, "functions");
  expect_conversation_error(R"({"code": "x", "stars": 5})", ErrorKind::failed, "code, stars");
  expect_conversation_error(R"({"prompt": "only"})", ErrorKind::failed, "prompt and completion");
  expect_conversation_error(R"({"messages": [{"content": "x"}]})", ErrorKind::failed, "role");
  expect_conversation_error(R"({"messages": "x"})", ErrorKind::failed, "list");
  expect_conversation_error(R"({"messages": [{"role": "user", "content": 5}]})", ErrorKind::failed,
                            "content");
  expect_conversation_error(R"([1])", ErrorKind::failed, "these would do");
}

std::string rendered_file(const std::string& rows, const std::string& source) {
  const Path file =
      Path(testing::TempDir()) / ("qwb_conversation_" + std::to_string(::getpid()) + ".jsonl");
  std::ofstream(file) << rows;
  const auto chat = ChatTemplate::from_text(source, nullptr, "t");
  const auto texts = calibration_texts(file, [&](const Conversation& conversation) {
    ChatTemplate::Options options;
    options.tools = conversation.tools;
    options.variables = conversation.variables;
    options.join_parts = true;
    return chat.render(conversation.messages, options);
  });
  return texts.texts.at(0);
}

TEST(Conversation, EverythingReachesTheTemplate) {
  const std::string source =
      "{% for t in tools or [] %}T:{{ t.name }} {% endfor %}{% for m in messages %}{{ "
      "m.keys()|join(',') "
      "}}={{ m.content }}{% for c in "
      "m.tool_calls or [] %} C:{{ c.function|tojson }}{% endfor %}{{ m.reasoning_content }};{% "
      "endfor %}{{ "
      "style }}";
  const std::string turns =
      R"("messages": [{"id": 1, "role": "user", "content": "q"}, {"role": "assistant", "content": null, "reasoning": "why", "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1.0, "a": null}}}]}])";
  const std::string wanted =
      "id,role,content=q;thinking,role,reasoning,tool_calls,reasoning_content= "
      "C:{\"name\": "
      "\"f\", \"arguments\": {\"b\": "
      "1.0, \"a\": null}}why;";
  EXPECT_EQ(rendered_file("{" + turns + "}\n", source), wanted);
  EXPECT_EQ(rendered_file(R"({"tools": [{"name": "f"}], "chat_template_kwargs": {"style": "x"}, )" +
                              turns + "}\n",
                          source),
            "T:f " + wanted + "x");
  EXPECT_EQ(rendered_file(R"({"tools": "[{\"name\": \"f\"}]", )" + turns + "}\n", source),
            "T:f " + wanted);
}

TEST(Conversation, ARefusalNamesFileAndLine) {
  const std::string good = R"({"messages": [{"role": "user", "content": "q"}]})",
                    bad = R"({"messages": [{"role": "system", "content": "s"}]})";
  const std::string refusing =
      "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% "
      "endif %}{% "
      "endfor %}x";
  const auto error_of = [](const std::string& rows, const std::string& source) -> std::string {
    try {
      return "gave " + rendered_file(rows, source);
    } catch (const Error& error) {
      return error.what();
    }
  };
  for (const std::string& source :
       {refusing, std::string("{% for m in messages %}{% if m.role == 'system' %}{{ 1 + 'a' }}{% "
                              "endif %}{% endfor %}x")}) {
    const std::string text = error_of(good + "\n\n" + good + "\n" + bad + "\n", source);
    EXPECT_NE(text.find(".jsonl line 4"), std::string::npos) << text;
  }
  EXPECT_NE(
      error_of(
          R"({"messages": [{"role": "user", "content": "q", "n": 123456789012345678901234567890}]})",
          "x")
          .find("64 bits"),
      std::string::npos);
  EXPECT_EQ(
      error_of(
          R"({"messages": [{"role": "user", "content": "\"123456789012345678901234567890", "n": 1e30}]})",
          "x"),
      "gave x");
}

// jinja2 sees None, as transformers hands it over.
TEST(Conversation, ATextPartMayBeNull) {
  const std::string each =
      "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}";
  EXPECT_EQ(
      rendered_file(R"({"messages": [{"role": "user", "content": [{"type": "text", "text": null}, )"
                    R"({"type": "text", "text": "b"}]}]})",
                    each),
      "<None><b>");
  const Conversation conversation = read_conversation(
      conversation_json(
          R"({"messages": [{"role": "user", "content": [{"type": "text", "text": null}, "b"]}]})"),
      "row");
  EXPECT_EQ(conversation_text(conversation), "b");
}

// Those that no template can show do not matter.
TEST(Conversation, LongIntegersCountOnlyWhereTheyAreUsed) {
  const std::string shown = "{% for m in messages %}{{ m.content }}{% endfor %}";
  for (const std::string id : {"123456789012345678901234567890", "-99999999999999999999"}) {
    const std::string turns = R"("messages": [{"role": "user", "content": "q \" 1"}])";
    EXPECT_EQ(rendered_file("{\"id\": " + id + ", " + turns + "}", shown), "q \" 1");
    EXPECT_EQ(rendered_file("{" + turns + ", \"ids\": [1, " + id + "]}", shown), "q \" 1");
    for (const std::string& row :
         {R"({"messages": [{"role": "user", "content": "q", "n": )" + id + "}]}",
          "{" + turns + R"(, "chat_template_kwargs": {"n": )" + id + "}}"}) {
      try {
        rendered_file(row, shown);
        ADD_FAILURE() << row;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::unsupported);
        EXPECT_NE(std::string(error.what()).find(id), std::string::npos) << error.what();
      }
    }
  }
}

TEST(Conversation, ATextBesideTurnsIsRefusedUnderATemplate) {
  for (const std::string row :
       {R"({"text": "t", "messages": [{"role": "user", "content": "q"}]})",
        R"({"text": "t", "instruction": "q", "output": "a"})",
        R"({"page": "t", "conversations": [{"from": "human", "value": "q"}]})"}) {
    try {
      rendered_file(row, "x");
      ADD_FAILURE() << row;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported) << error.what();
    }
  }
  EXPECT_EQ(rendered_file(R"({"text": "t", "prompt": "only"})", "x"), "t");
}

// Tool calls in the old form reach a template; arguments of the rendering itself are no variables.
TEST(Conversation, NothingIsTakenForAnEmptyTurn) {
  expect_conversation_error(R"({"messages": [{"role": "user", "text": "q"}]})", ErrorKind::failed,
                            "no content");
  EXPECT_EQ(plain(R"({"messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "function_call": {"name": "f"}}]})"),
            "q");
  for (const char* key : {"chat_template", "tools", "continue_final_message", "messages"})
    expect_conversation_error(R"({"messages": [{"role": "user", "content": "q"}],
                                  "chat_template_kwargs": {")" +
                                  std::string(key) + R"(": true}})",
                              ErrorKind::unsupported, key);
  EXPECT_EQ(rendered_file("{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}], "
                          "\"chat_template_kwargs\": {\"add_generation_prompt\": true}}\n",
                          "{{ add_generation_prompt }}"),
            "True");
}

}  // namespace
}  // namespace qwb
