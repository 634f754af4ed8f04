// Requests as JSON: every field absent, null, of the wrong type and out of range; fields that are
// not implemented.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/completion_request.h"
#include "lib/serve/api/request_json.h"

namespace qwb::serve {
namespace {

CompletionRequest read(const std::string& more, bool chat) {
  const std::string begin =
      chat ? R"({"messages": [{"role": "user", "content": "Hi"}])" : R"({"prompt": "Hi")";
  const Json json = parse_request(begin + (more.empty() ? "" : ", " + more) + "}");
  return chat ? read_chat_request(json, {}) : read_text_request(json, {});
}

// The field that a request is refused for; "accepted" if it is not.
std::string refused(const std::string& more, bool chat) {
  try {
    read(more, chat);
    return "accepted";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 400);
    const Json param = error.json()["error"]["param"];
    return param.is_string() ? param.get<std::string>() : "";
  }
}

struct FieldCase {
  const char* name;
  std::vector<const char*> good, bad;
};

const std::vector<FieldCase>& shared_fields() {
  static const std::vector<FieldCase> cases = {
      {"temperature", {"0", "2", "0.7", "1"}, {"-0.1", "2.1", "\"1\"", "[]", "true"}},
      {"top_p", {"0", "1", "0.5"}, {"-1", "1.1", "\"x\""}},
      {"top_k", {"-1", "0", "40"}, {"-2", "1.5", "\"x\""}},
      {"min_p", {"0", "0.1"}, {"-1", "2"}},
      {"repetition_penalty", {"1", "1.1"}, {"0", "-1", "101"}},
      {"frequency_penalty", {"0", "-2", "2"}, {"-2.1", "3", "\"x\""}},
      {"presence_penalty", {"0", "1.5"}, {"-2.1", "3"}},
      {"seed", {"0", "-5", "18446744073709551615"}, {"1.5", "\"x\"", "1e300"}},
      {"max_tokens", {"1", "-1", "100.0"}, {"-2", "1.5", "\"5\"", "1e12"}},
      {"max_completion_tokens", {"7"}, {"-7", "{}"}},
      {"n", {"1", "128"}, {"0", "129", "-1", "1.5"}},
      {"stop", {"\"a\"", "[\"a\", \"b\"]", "[]"}, {"\"\"", "[\"\"]", "1", "[1]"}},
      {"stream", {"true", "false"}, {"1", "\"true\""}},
      {"stream_options", {"{}", "{\"include_usage\": true}"}, {"1", "[]"}},
      {"ignore_eos", {"true"}, {"1"}},
      {"cache_prompt", {"false"}, {"0"}},
      {"return_tokens", {"true"}, {"\"\""}},
      {"logit_bias", {"{}"}, {"{\"5\": 1}"}},
      {"response_format", {R"({"type": "text"})"}, {R"({"type": "json_object"})"}},
      {"min_tokens", {"0"}, {"5"}},
      {"guided_json", {}, {"{\"a\": 1}"}},
      {"grammar", {"\"\""}, {"\"root\""}},
      {"user", {"\"me\"", "5"}, {}},  // unknown fields are ignored
      {"store", {"true"}, {}},
  };
  return cases;
}

void check(const std::vector<FieldCase>& cases, bool chat) {
  for (const FieldCase& field : cases) {
    const std::string name = std::string("\"") + field.name + "\": ";
    EXPECT_EQ(refused(name + "null", chat), "accepted") << field.name;
    for (const char* value : field.good)
      EXPECT_EQ(refused(name + value, chat), "accepted") << field.name << " " << value;
    for (const char* value : field.bad)
      EXPECT_EQ(refused(name + value, chat), field.name) << field.name << " " << value;
  }
}

TEST(Request, FieldsOfBothKinds) {
  check(shared_fields(), true);
  check(shared_fields(), false);
}

TEST(Request, FieldsOfChats) {
  check({{"logprobs", {"true", "false"}, {"1", "\"x\""}},
         {"top_logprobs", {"0"}, {"21", "-1", "5"}},  // 5 needs logprobs
         {"tools", {"[]", "[{\"type\": \"function\"}]"}, {"{}", "[1]", "\"x\""}},
         {"tool_choice", {"\"none\"", "\"auto\""}, {"\"required\"", "{\"type\": \"function\"}"}},
         {"reasoning_effort", {}, {"\"high\""}},
         {"chat_template", {}, {"\"x\""}},
         {"chat_template_kwargs",
          {"{\"enable_thinking\": false}"},
          {"[]", "{\"messages\": 1}", "{\"a\": [1]}"}}},
        true);
  EXPECT_EQ(read(R"("logprobs": true, "top_logprobs": 20)", true).top, 20);
  EXPECT_EQ(read(R"("logprobs": false)", true).top, std::nullopt);
}

TEST(Request, FieldsOfTexts) {
  check({{"logprobs", {"0", "5", "20"}, {"true", "21", "-1"}},
         {"echo", {"true"}, {"1"}},
         {"suffix", {"\"\""}, {"\"x\""}},
         {"best_of", {"1"}, {"2", "0"}}},
        false);
  EXPECT_EQ(read(R"("max_tokens": 0)", false).max_tokens, 0);
  EXPECT_EQ(read("", false).max_tokens, kTextTokens);
  EXPECT_EQ(read("", true).max_tokens, std::nullopt);
  EXPECT_EQ(refused(R"("max_tokens": 0)", true), "max_tokens");
  EXPECT_EQ(refused(R"("max_tokens": 5, "max_completion_tokens": 6)", true), "max_tokens");
  EXPECT_EQ(refused(R"("stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15",
                      "16","17"])",
                    true),
            "stop");
}

std::string refused_prompt(const std::string& prompt) {
  try {
    read_text_request(parse_request("{\"n\": 2, \"prompt\": " + prompt + "}"), {});
    return "accepted";
  } catch (const ApiError& error) {
    return error.json()["error"]["param"].get<std::string>();
  }
}

TEST(Request, Prompts) {
  for (const char* good : {"\"a\"", "[\"a\", \"b\"]", "[1, 2]", "[[1, 2], [3]]", "\"\""})
    EXPECT_EQ(refused_prompt(good), "accepted") << good;
  for (const char* bad : {"null", "[]", "1", "{}", "[-1]", "[1.5]", "[1, \"a\"]", "[[]]",
                          "[4294967296]", "[[\"a\"]]"})
    EXPECT_EQ(refused_prompt(bad), "prompt") << bad;
  std::string many = "[\"a\"";
  for (int i = 0; i < 64; ++i) many += ",\"a\"";
  EXPECT_EQ(refused_prompt(many + "]"), "n");
}

std::string refused_messages(const std::string& messages) {
  try {
    read_chat_request(parse_request("{\"messages\": " + messages + "}"), {});
    return "accepted";
  } catch (const ApiError& error) {
    return error.json()["error"]["param"].get<std::string>();
  }
}

TEST(Request, Messages) {
  EXPECT_EQ(refused_messages(R"([{"role": "user", "content": [{"type": "text", "text": "a"}]}])"),
            "accepted");
  EXPECT_EQ(refused_messages("null"), "messages");
  EXPECT_EQ(refused_messages("[]"), "messages");
  EXPECT_EQ(refused_messages(R"([{"content": "a"}])"), "messages[0].role");
  EXPECT_EQ(refused_messages(R"([{"role": "user", "content": "a"}, {"role": "robot"}])"),
            "messages[1].role");
  EXPECT_EQ(refused_messages(R"([{"role": "user"}])"), "messages[0].content");
  EXPECT_EQ(refused_messages(R"([{"role": "user", "content": [{"type": "image_url"}]}])"),
            "messages[0].content");
  EXPECT_EQ(refused_messages(R"([{"role": "assistant", "tool_calls": [{"function": {}}]}])"),
            "messages[0].tool_calls");
  const Json request = parse_request(
      R"({"messages": [{"role": "developer", "content": "a"}, {"role": "assistant", "content": null,
          "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\": 1}"}}]}]})");
  const Json messages = read_chat_request(request, {}).messages;
  EXPECT_EQ(messages[0]["role"], "system");
  EXPECT_EQ(messages[1]["tool_calls"][0]["function"]["arguments"]["x"], 1);
}

TEST(Request, BodiesAreBoundedObjects) {
  const auto problem = [](const std::string& body) -> std::string {
    try {
      parse_request(body);
      return "accepted";
    } catch (const ApiError& error) {
      return error.what();
    }
  };
  const auto deep = [](int levels) {
    return "{\"a\":" + std::string(static_cast<size_t>(levels), '[') + "1" +
           std::string(static_cast<size_t>(levels), ']') + "}";
  };
  EXPECT_EQ(problem(deep(63)), "accepted");
  EXPECT_NE(problem(deep(64)).find("64 levels"), std::string::npos);
  std::string keys;
  for (int i = 0; i < 1001; ++i) keys += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":0";
  EXPECT_NE(problem("{" + keys + "}").find("1000 keys"), std::string::npos);
  for (const char* bad : {"", "[]", "1", "{\"a\": 1e400}", "{\"a\": NaN}", "{\"a\": 1, \"a\": 2}",
                          "{} x", "{\"a\": \"\xff\"}", "{\"a\"", "nul"})
    EXPECT_NE(problem(bad), "accepted") << bad;
}

}  // namespace
}  // namespace qwb::serve
