// Routes as clients use them, without a network: bytes of a stream, logprobs beside their text,
// errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/file.h"
#include "lib/serve/api/routes.h"
#include "tests/serve/demo_model_helper.h"
#include "tests/serve/exchange_helper.h"

namespace qwb::serve {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Api : public ::testing::Test {
 protected:
  static Service& service() {
    static Service* const one = [] {
      std::vector<ServedModel> models;
      models.push_back(demo_model());
      auto* made = new Service(std::move(models), {.engine = demo_limits(), .max_tokens = {}});
      made->fix_heads();
      return made;
    }();
    return *one;
  }
  static std::shared_ptr<MemoryExchange> ask(const std::string& path, const std::string& body,
                                             const std::string& method = "POST") {
    const auto exchange = std::make_shared<MemoryExchange>(path, body);
    const Routed routed = find_route(method, path);
    EXPECT_NE(routed.route, nullptr) << path;
    handle(*routed.route, service(), exchange);
    exchange->wait();
    return exchange;
  }
  static Json json(const std::string& path, const std::string& body,
                   const std::string& method = "POST") {
    const auto exchange = ask(path, body, method);
    EXPECT_EQ(exchange->status, 200) << exchange->text;
    return Json::parse(exchange->text);
  }
  static Json refusal(const std::string& path, const std::string& body, int status) {
    const auto exchange = ask(path, body);
    EXPECT_EQ(exchange->status, status) << body;
    return Json::parse(exchange->text)["error"];
  }
};

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kText = "/v1/completions";

// tests/golden/serve/*.txt; QWB_WRITE_GOLDEN=1 writes them anew.
void compare_golden(const std::string& name, const std::string& text) {
  const Path file = Path(QWB_SOURCE_DIR) / "tests/golden/serve" / name;
  if (std::getenv("QWB_WRITE_GOLDEN") != nullptr) write_file_atomically(file, as_bytes(text));
  EXPECT_EQ(text, read_text(file)) << name;
}

// The times of "timings" differ from run to run.
std::string without_times(std::string text) {
  const size_t begin = text.find(",\"timings\":{");
  if (begin != std::string::npos) text.erase(begin, text.find('}', begin) + 1 - begin);
  return text;
}

TEST_F(Api, StreamsAreTheGoldenBytes) {
  compare_golden("chat_stream.txt", without_times(ask(kChat, R"({"stream": true, "max_tokens": 5,
      "messages": [{"role": "user", "content": "Who was he?"}],
      "stream_options": {"include_usage": true}})")
                                                      ->text));
  compare_golden("text_stream.txt", ask(kText, R"({"stream": true, "max_tokens": 4, "echo": true,
      "prompt": "The history of", "stop": "zzz"})")
                                        ->text);
}

TEST_F(Api, AStreamSaysWhatTheWholeAnswerSays) {
  const std::string body = R"("max_tokens": 12, "n": 2, "seed": 3, "temperature": 1,
      "logprobs": true, "top_logprobs": 2, "messages": [{"role": "user", "content": "Tell"}]})";
  const Json whole = json(kChat, "{" + body);
  std::vector<std::string> texts(2);
  std::vector<Json> scores(2, Json::array());
  std::istringstream stream(ask(kChat, "{\"stream\": true, " + body)->text);
  std::string last;
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with("data: {")) {
      if (!line.empty()) last = line;
      continue;
    }
    const Json choice = Json::parse(line.substr(6))["choices"][0];
    const auto index = choice["index"].get<size_t>();
    texts[index] += choice["delta"].value("content", "");
    if (choice["logprobs"].is_null()) continue;
    for (const Json& token : choice["logprobs"]["content"]) scores[index].push_back(token);
  }
  EXPECT_EQ(last, "data: [DONE]");
  for (size_t i = 0; i < 2; ++i) {
    const Json& choice = whole["choices"][i];
    EXPECT_EQ(choice["message"]["content"], texts[i]);
    EXPECT_EQ(choice["logprobs"]["content"], scores[i]);
    std::string bytes;
    for (const Json& token : scores[i]) {
      for (const Json& byte : token["bytes"]) bytes += static_cast<char>(byte.get<int>());
    }
    EXPECT_EQ(bytes, texts[i]);
    EXPECT_EQ(scores[i].size(), 12u);
  }
  EXPECT_NE(texts[0], texts[1]);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 24);
}

// What lm-evaluation-harness asks: the logprobs of a prompt's tokens.
TEST_F(Api, EchoesCarryTheLogprobsOfThePrompt) {
  const Json answer = json(kText, R"({"prompt": ["The history of the city", [464, 262, 286]],
      "max_tokens": 1, "logprobs": 1, "echo": true, "temperature": 0})");
  ASSERT_EQ(answer["choices"].size(), 2u);
  const Json& choice = answer["choices"][0];
  const Json& scores = choice["logprobs"];
  const auto prompt = demo_tokenizer().encode("The history of the city", true);
  ASSERT_EQ(scores["tokens"].size(), prompt.size() + 1);
  EXPECT_TRUE(scores["token_logprobs"][0].is_null());
  std::string text;
  for (size_t i = 0; i < scores["tokens"].size(); ++i) {
    EXPECT_EQ(scores["text_offset"][i], text.size());
    text += scores["tokens"][i].get<std::string>();
    if (i == 0) continue;
    const double own = scores["token_logprobs"][i];
    EXPECT_LT(own, 0);
    double best = -1e9;
    for (const auto& [token, value] : scores["top_logprobs"][i].items())
      best = std::max(best, value.get<double>());
    EXPECT_GE(best, own);
  }
  EXPECT_EQ(choice["text"], text);
  EXPECT_TRUE(text.starts_with("The history of the city"));
  EXPECT_EQ(answer["choices"][1]["logprobs"]["tokens"].size(), 4u);
  // Without tokens to make, the prompt alone.
  const Json alone = json(kText, R"({"prompt": "The history of the city", "max_tokens": 0,
      "logprobs": 0, "echo": true})");
  EXPECT_EQ(alone["choices"][0]["text"], "The history of the city");
  EXPECT_EQ(alone["choices"][0]["logprobs"]["tokens"].size(), prompt.size());
}

TEST_F(Api, ErrorsNameWhatIsWrong) {
  std::string endless;
  for (int i = 0; i < 600; ++i) endless += "word ";
  const Json overflow = refusal(kText, Json({{"prompt", endless}, {"max_tokens", 1}}).dump(), 400);
  EXPECT_EQ(overflow["code"], "context_length_exceeded");
  EXPECT_EQ(overflow["n_ctx"], 512);
  EXPECT_GT(overflow["n_prompt_tokens"], 512);
  const Json unknown = refusal(kText, R"({"model": "gpt-5", "prompt": "a"})", 404);
  EXPECT_EQ(unknown["code"], "model_not_found");
  EXPECT_EQ(refusal(kText, R"({"prompt": [5000000]})", 400)["param"], "prompt");
  EXPECT_EQ(refusal(kText, R"({"prompt": "a", "n": 5})", 400)["param"], "n");  // four slots
  EXPECT_EQ(refusal(kText, "[]", 400)["type"], "invalid_request_error");
  const Json none = refusal(kChat, R"({"messages": [{"role": "user", "content": "a"}],
      "tools": [{"type": "function"}], "tool_choice": "required"})",
                            400);
  EXPECT_EQ(none["param"], "tool_choice");
}

TEST_F(Api, TextsAndTokens) {
  const Json tokens = json("/tokenize", R"({"content": "The é"})");
  EXPECT_EQ(tokens["tokens"].get<std::vector<int32_t>>(), demo_tokenizer().encode("The é", false));
  EXPECT_EQ(json("/detokenize", tokens.dump())["content"], "The é");
  const Json pieces = json("/tokenize", R"({"content": "日", "with_pieces": true})");
  EXPECT_TRUE(pieces["tokens"][0]["piece"].is_array() || pieces["tokens"][0]["piece"] == "日");
  EXPECT_EQ(refusal("/detokenize", R"({"tokens": [-1]})", 400)["param"], "tokens");
  EXPECT_EQ(
      json("/apply-template", R"({"messages": [{"role": "user", "content": "a"}]})")["prompt"],
      "[user] a [answer]");
}

// No answer tells a place on this machine.
TEST_F(Api, StatusWithoutPlaces) {
  const std::string source = QWB_SOURCE_DIR;
  for (const Route& route : routes()) {
    if (route.method != "GET" || route.path.ends_with('*')) continue;
    EXPECT_THAT(ask(std::string(route.path), "", "GET")->text, Not(HasSubstr(source)));
  }
  const Json models = json("/v1/models", "", "GET");
  EXPECT_EQ(models["data"][0]["id"], "gpt2");
  for (const char* key : {"object", "created", "owned_by"})
    EXPECT_TRUE(models["data"][0].contains(key));
  EXPECT_EQ(json("/v1/models/gpt2", "", "GET")["id"], "gpt2");
  EXPECT_EQ(json("/health", "", "GET")["status"], "ok");
  EXPECT_EQ(ask("/metrics", "", "GET")->status, 404);  // off
}

}  // namespace
}  // namespace qwb::serve
