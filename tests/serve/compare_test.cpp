// POST /qwb/v1/compare without a network: the bytes of its stream, and its numbers against those of
// lib/model and lib/evaluate.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/file.h"
#include "lib/evaluate/divergence.h"
#include "lib/model/generate.h"
#include "lib/serve/api/routes.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/serve/demo_model_helper.h"
#include "tests/serve/exchange_helper.h"

namespace qwb::serve {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kCompare = "/qwb/v1/compare";

// The demo's gpt2 twice and in four bits, and a llama whose tokenizer is another.
class Compare : public ::testing::Test {
 protected:
  static Service& service() {
    static const testing::Scratch scratch("compare");
    static Service* const one = [] {
      const Path four = scratch.path() / "four";
      testing::make_artifact(testing::demo("gpt2"), "rtn", four, "");
      std::vector<ServedModel> models;
      models.push_back(demo_model("full"));
      models.push_back(demo_model("twin"));
      models.push_back(demo_model("four", four));
      models.push_back(demo_model("llama", testing::demo("llama")));
      models.back().chat.reset();
      auto* made = new Service(std::move(models), {.engine = demo_limits(), .max_tokens = {}});
      made->fix_heads();
      return made;
    }();
    return *one;
  }
  static std::shared_ptr<MemoryExchange> ask(const std::string& path, const std::string& body) {
    const auto exchange = std::make_shared<MemoryExchange>(path, body);
    handle(*find_route("POST", path).route, service(), exchange);
    return exchange;
  }
  static std::string stream(const std::string& body) {
    const auto exchange = ask(kCompare, body);
    exchange->wait();
    EXPECT_EQ(exchange->status, 200) << exchange->text;
    return exchange->text;
  }
  static std::vector<Json> events(const std::string& text) {
    std::vector<Json> found;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("data: {")) found.push_back(Json::parse(line.substr(6)));
    }
    return found;
  }
  // The event of this kind about a column.
  static Json event(const std::vector<Json>& events, const std::string& type, int column) {
    for (const Json& one : events) {
      if (one["type"] == type && one.value("column", Json()) == Json(column)) return one;
    }
    ADD_FAILURE() << "no " << type << " of column " << column;
    return {};
  }
  static Json refusal(const std::string& body, int status) {
    const auto exchange = ask(kCompare, body);
    exchange->wait();
    EXPECT_EQ(exchange->status, status) << exchange->text;
    return Json::parse(exchange->text)["error"];
  }
  static const Model& model(size_t index) { return *service().models()[index].loaded.model; }
  static std::vector<float> logits_behind(const Model& model, std::span<const int32_t> tokens,
                                          size_t prompt) {
    KvCache cache = model.new_cache(std::ssize(tokens));
    const Executor& executor = model.executor();
    const Matrix row = executor.allocate(1, model.config().vocab);
    for (size_t at = 0; at < tokens.size();) {
      const size_t count = at == 0 ? prompt : 1;
      const Matrix hidden = executor.allocate(static_cast<int64_t>(count), model.config().hidden);
      model.forward(tokens.subspan(at, count), cache, hidden);
      model.logits(hidden.view().row_range(static_cast<int64_t>(count) - 1, 1), row);
      at += count;
    }
    return executor.download(row);
  }
};

double probability_of(const std::vector<float>& logits, int32_t token) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return std::exp(logits[static_cast<size_t>(token)] - most) / sum;
}

std::string without_timings(std::string text) {
  for (size_t at = text.find(",\"timings\":{"); at != std::string::npos;
       at = text.find(",\"timings\":{"))
    text.erase(at, text.find('}', at) + 1 - at);
  return text;
}

TEST_F(Compare, TheStreamIsTheGoldenBytes) {
  const std::string text = without_timings(stream(R"({"models": ["full", "twin"], "max_tokens": 4,
      "prompt": "The history of", "along": false, "temperature": 0})"));
  const Path file = Path(QWB_SOURCE_DIR) / "tests/golden/serve/compare_stream.txt";
  if (std::getenv("QWB_WRITE_GOLDEN") != nullptr) write_file_atomically(file, as_bytes(text));
  EXPECT_EQ(text, read_text(file));
}

TEST_F(Compare, TheDepartureIsThatOfFreeAnswers) {
  const auto told = events(stream(R"({"models": ["full", "four"], "max_tokens": 60,
      "prompt": "The history of the city", "along": false, "temperature": 0})"));
  const std::vector<int32_t> prompt = demo_tokenizer().encode("The history of the city", true);
  std::vector<std::vector<int32_t>> answers(2);
  for (size_t i = 0; i < 2; ++i) {
    const Model& of = model(2 * i);
    KvCache cache = of.new_cache(512);
    generate(of, prompt, {.sampling = {}, .max_tokens = 60, .eos = {}}, cache,
             [&](int32_t token) { return answers[i].push_back(token), true; });
    EXPECT_EQ(event(told, "finish", static_cast<int>(i))["tokens"].get<std::vector<int32_t>>(),
              answers[i]);
  }
  const auto [a, b] = std::ranges::mismatch(answers[0], answers[1]);
  ASSERT_NE(a, answers[0].end());
  const Json departure = event(told, "departure", 1)["departure"];
  EXPECT_EQ(departure["index"], a - answers[0].begin());
  EXPECT_EQ(departure["base"]["token"], *a);
  EXPECT_EQ(departure["column"]["token"], *b);
  std::vector<int32_t> before = prompt;
  before.insert(before.end(), answers[0].begin(), a);
  const auto base = logits_behind(model(0), before, prompt.size()),
             other = logits_behind(model(2), before, prompt.size());
  const auto told_of = [&](const char* side, const char* by) {
    return departure[side][by]["probability"].get<double>();
  };
  EXPECT_NEAR(told_of("base", "by_base"), probability_of(base, *a), 1e-12);
  EXPECT_NEAR(told_of("column", "by_base"), probability_of(base, *b), 1e-12);
  EXPECT_NEAR(told_of("base", "by_column"), probability_of(other, *a), 1e-12);
  EXPECT_NEAR(told_of("column", "by_column"), probability_of(other, *b), 1e-12);
  EXPECT_EQ(event(told, "self_check", 0)["same"], true);
}

// Prompt and answer are longer than a piece of the engine's, so that rows come in several calls.
TEST_F(Compare, AlongTheAnswerItIsTheDivergenceOfRows) {
  const auto told = events(stream(R"({"models": ["full", "four"], "max_tokens": 60,
      "prompt": "The history of the city", "self_check": false, "temperature": 0})"));
  std::vector<int32_t> tokens = demo_tokenizer().encode("The history of the city", true);
  const auto answer = event(told, "finish", 0)["tokens"].get<std::vector<int32_t>>();
  const auto first = std::ssize(tokens) - 1;
  tokens.insert(tokens.end(), answer.begin(), answer.end());
  std::vector<Matrix> logits;
  const auto rows = std::ssize(answer);
  for (const size_t i : {size_t{0}, size_t{2}}) {
    const Model& of = model(i);
    KvCache cache = of.new_cache(std::ssize(tokens));
    const Matrix hidden = of.executor().allocate(std::ssize(tokens), of.config().hidden);
    of.forward(tokens, cache, hidden);
    logits.push_back(of.executor().allocate(rows, of.config().vocab));
    of.logits(hidden.view().row_range(first, rows), logits.back());
  }
  bool finite = false;
  const auto expected =
      divergence_of_rows(model(0).executor(), logits[0], logits[1], answer, finite);
  const Json along = event(told, "along", 1), base = event(told, "along", 0);
  ASSERT_EQ(along["positions"].size(), answer.size());
  int same = 0;
  for (size_t i = 0; i < answer.size(); ++i) {
    const Json& position = along["positions"][i];
    EXPECT_EQ(position["token"], answer[i]);
    // Logits of products of other sizes differ in their last bits.
    EXPECT_NEAR(position["kl"], expected[i].kl, 1e-5 + 1e-3 * expected[i].kl) << i;
    EXPECT_NEAR(position["probability"], std::exp(-expected[i].other_loss), 1e-5);
    EXPECT_NEAR(position["base_probability"], std::exp(-expected[i].base_loss), 1e-5);
    EXPECT_EQ(position["top"].size(), 5u);
    EXPECT_EQ(position["rank"] == 1, position["top"][0]["token"] == answer[i]);
    EXPECT_EQ(base["positions"][i]["kl"], 0);
    same += expected[i].same_top ? 1 : 0;
  }
  EXPECT_EQ(along["same"], same);
  EXPECT_LT(same, rows);
  EXPECT_EQ(base["agreement"], 1);
}

TEST_F(Compare, WhatCannotBeComparedSaysWhy) {
  const auto told = events(stream(R"({"models": ["full", "llama", "twin"], "max_tokens": 3,
      "prompt": "The history", "temperature": 0.5, "seed": 3})"));
  EXPECT_EQ(event(told, "departure", 1)["reason"], "the tokenizers differ");
  EXPECT_EQ(event(told, "along", 1)["reason"], "the tokenizers differ");
  EXPECT_THAT(event(told, "departure", 2)["reason"].get<std::string>(), HasSubstr("at random"));
  EXPECT_EQ(event(told, "along", 2)["mean_kl"], 0);
  EXPECT_EQ(event(told, "finish", 0)["tokens"], event(told, "finish", 2)["tokens"]);  // one seed
  const auto without =
      events(stream(R"({"models": ["twin"], "max_tokens": 2, "prompt": "The", "temperature": 0})"));
  EXPECT_EQ(event(without, "departure", 0)["reason"], "the base is not among the columns");
  const auto others = events(stream(R"({"columns": [{"model": "full", "prompt": "A"},
      {"model": "twin", "prompt": "B"}], "max_tokens": 2, "temperature": 0})"));
  EXPECT_EQ(event(others, "departure", 1)["reason"], "the texts before this answer differ");
}

TEST_F(Compare, AColumnsErrorIsItsOwn) {
  const auto told = events(stream(R"({"models": ["full", "llama"], "max_tokens": 2,
      "messages": [{"role": "user", "content": "Who?"}], "temperature": 0})"));
  EXPECT_EQ(event(told, "error", 1)["error"]["code"], "no_chat_template");
  EXPECT_EQ(event(told, "finish", 0)["finish"], "length");
  EXPECT_EQ(event(told, "along", 1)["reason"], "this version has no answer");
  EXPECT_EQ(refusal(R"({"models": ["nobody"], "prompt": "a"})", 404)["code"], "model_not_found");
  EXPECT_EQ(refusal(R"({"models": ["full"], "prompt": "a", "base": "nobody"})", 404)["param"],
            "model");
  EXPECT_EQ(refusal(R"({"models": [], "prompt": "a"})", 400)["param"], "models");
  EXPECT_EQ(refusal(R"({"models": ["full"], "prompt": "a", "n": 2})", 400)["param"], "n");
  EXPECT_EQ(refusal(R"({"models": ["full"], "prompt": "a", "mode": "x"})", 400)["param"], "mode");
  EXPECT_EQ(refusal(R"({"models": ["full"]})", 400)["param"], "prompt");
  EXPECT_EQ(refusal(R"({"models": ["full"], "prompt": "a", "logit_bias": {"1": 2}})", 400)["param"],
            "logit_bias");
}

bool wait_until(const std::function<bool()>& state) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!state() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return state();
}

constexpr const char* kLongComparison = R"({"models": ["full", "twin", "four"], "mode": "MODE",
    "max_tokens": 150, "prompt": "The history", "temperature": 0, "ignore_eos": true})";
std::string long_comparison(const std::string& mode) {
  std::string body = kLongComparison;
  return body.replace(body.find("MODE"), 4, mode);
}

TEST_F(Compare, WhoGoesStopsAllColumns) {
  for (const char* mode : {"in_turns", "at_once"}) {
    const auto exchange = ask(kCompare, long_comparison(mode));
    const int64_t before = service().engine().load().decoded;
    ASSERT_TRUE(wait_until([&] { return service().engine().load().decoded > before + 5; }));
    exchange->stop();
    exchange->wait();
    EXPECT_TRUE(wait_until([&] { return service().engine().load().running == 0; }));
    EXPECT_LT(service().engine().load().decoded, before + 300) << mode;
    EXPECT_THAT(exchange->text, Not(HasSubstr("\"finish\":\"length\"")));
  }
}

TEST_F(Compare, OneColumnIsStoppedAndTheOthersGoOn) {
  const auto exchange = ask(kCompare, long_comparison("at_once"));
  const int64_t before = service().engine().load().decoded;
  ASSERT_TRUE(wait_until([&] { return service().engine().load().decoded > before + 9; }));
  const auto stop = [&](const char* body, int status) {
    const auto stopping = ask("/qwb/v1/compare/stop", body);
    stopping->wait();
    EXPECT_EQ(stopping->status, status) << stopping->text;
  };
  stop(R"({"id": "compare-0", "column": 1})", 200);
  stop(R"({"id": "compare-0", "column": 3})", 400);
  stop(R"({"id": "compare-1", "column": 0})", 404);
  exchange->wait();
  const auto told = events(exchange->text);
  const Json cut = event(told, "finish", 1);
  EXPECT_EQ(cut["finish"], "stopped");
  EXPECT_LT(cut["tokens"].size(), 150u);
  for (const int column : {0, 2}) {
    EXPECT_EQ(event(told, "finish", column)["finish"], "length");
    EXPECT_EQ(event(told, "finish", column)["tokens"].size(), 150u);
  }
  const Json departure = event(told, "departure", 1);
  EXPECT_TRUE(departure["departure"].is_null());
  EXPECT_EQ(departure["equal_tokens"], cut["tokens"].size());
  stop(R"({"id": "compare-0"})", 404);  // it is over
}

TEST_F(Compare, StoppingAllSkipsTheRest) {
  const auto exchange = ask(kCompare, long_comparison("in_turns"));
  const int64_t before = service().engine().load().decoded;
  ASSERT_TRUE(wait_until([&] { return service().engine().load().decoded > before + 9; }));
  ask("/qwb/v1/compare/stop", R"({"id": "compare-0"})")->wait();
  exchange->wait();
  const auto told = events(exchange->text);
  for (int column = 0; column < 3; ++column)
    EXPECT_EQ(event(told, "finish", column)["finish"], "stopped");
  EXPECT_EQ(event(told, "along", 0)["reason"], "stopped");
  EXPECT_EQ(told.back()["type"], "end");
}

TEST_F(Compare, FieldsThatNobodyKnowsAreRefusedByName) {
  const std::vector<std::pair<const char*, const char*>> rows = {
      {R"({"models": ["full"], "prompt": "a", "maxtokens": 3})", "maxtokens"},
      {R"({"models": ["full"], "prompt": "a", "logprobs": true})", "logprobs"},
      {R"({"models": ["full"], "prompt": "a", "stream": false})", "stream"},
      {R"({"models": ["full"], "prompt": "a", "along": "yes"})", "along"},
      {R"({"models": ["full"], "prompt": "a", "first": -1})", "first"},
      {R"({"models": ["full"], "prompt": "a", "messages": []})", "prompt"},
      {R"({"models": "full", "prompt": "a"})", "models"},
      {R"({"columns": [{"model": "full", "prompt": "a", "n": 2}]})", "columns.n"},
      {R"({"columns": [{"model": "full", "prompt": "a", "base": "twin"}]})", "columns.base"},
      {R"({"columns": [{"model": "full", "prompt": "a", "modle": "twin"}]})", "columns.modle"},
      {R"({"columns": [{"model": "full", "prompt": "a"}], "models": ["full"]})", "models"},
      {R"({"columns": [["full"]], "prompt": "a"})", "columns"}};
  for (const auto& [body, param] : rows) EXPECT_EQ(refusal(body, 400)["param"], param) << body;
  // null is absent, and these change nothing.
  const auto told = events(stream(R"({"columns": [{"model": "full", "n": 1, "tools": null}],
      "prompt": "The", "messages": null, "stream": true, "max_tokens": 1, "along": null})"));
  EXPECT_EQ(event(told, "finish", 0)["finish"], "length");
}

// Whose writing goes wrong once.
class FaultyExchange : public MemoryExchange {
 public:
  using MemoryExchange::MemoryExchange;
  void write(std::string frames) override {
    if (frames.find("\"type\":\"finish\"") != std::string::npos && !std::exchange(failed_, true))
      throw std::bad_alloc();
    MemoryExchange::write(std::move(frames));
  }

 private:
  bool failed_ = false;
};

TEST_F(Compare, WhatGoesWrongEndsTheStreamOnce) {
  const auto exchange = std::make_shared<FaultyExchange>(
      kCompare, R"({"models": ["full", "twin", "four"], "max_tokens": 90, "mode": "at_once",
      "prompt": "The history", "temperature": 0, "ignore_eos": true, "stop": "xyzzy"})");
  handle(*find_route("POST", kCompare).route, service(), exchange);
  exchange->wait();
  ASSERT_TRUE(wait_until([&] { return service().engine().load().running == 0; }));
  const auto told = events(exchange->text);
  ASSERT_GE(told.size(), 2u);
  EXPECT_EQ(told.back()["type"], "end");
  const Json& error = told[told.size() - 2];
  EXPECT_EQ(error["type"], "error");
  EXPECT_TRUE(error["column"].is_null());
  EXPECT_THAT(error["error"]["message"].get<std::string>(), Not(HasSubstr("alloc")));
  EXPECT_TRUE(exchange->text.ends_with("data: [DONE]\n\n"));
}

TEST_F(Compare, TwoAtOnceAreThoseAlone) {
  const std::string one = R"({"models": ["full", "four"], "max_tokens": 12, "temperature": 0,
      "prompt": "The history of the town"})";
  const std::string other = R"({"models": ["twin", "four"], "base": "twin", "max_tokens": 9,
      "temperature": 0.7, "seed": 5, "prompt": "A river"})";
  const auto answers = [](const std::string& text) {
    std::string plain = without_timings(text);
    for (const Json& event : events(text)) EXPECT_NE(event["type"], "error") << event;
    return plain;
  };
  stream(one), stream(other);  // what is kept of their prompts is told
  const std::string alone = answers(stream(one)), other_alone = answers(stream(other));
  const auto first = ask(kCompare, one), second = ask(kCompare, other);
  first->wait();
  second->wait();
  EXPECT_EQ(answers(first->text), alone);
  EXPECT_EQ(answers(second->text), other_alone);
}

// --- the page's files and what it asks first

TEST_F(Compare, VersionsTellFacts) {
  const auto exchange = std::make_shared<MemoryExchange>("/qwb/v1/versions", "");
  handle(*find_route("GET", "/qwb/v1/versions").route, service(), exchange);
  exchange->wait();
  const Json told = Json::parse(exchange->text);
  EXPECT_EQ(told["base"], "full");
  EXPECT_EQ(told["versions"][0]["method"], "none");
  EXPECT_EQ(told["versions"][2]["method"], "rtn");
  EXPECT_LT(told["versions"][2]["bpw"], told["versions"][0]["bpw"]);
  EXPECT_EQ(told["versions"][3]["chat"], false);
  EXPECT_TRUE(told["energy"].is_null());
}

TEST_F(Compare, AVersionWithAdaptersIsAnotherVersion) {
  LoadOptions options;
  options.attach = [](const OpenModel&, Model&) {
    return Json{{{"name", "tuned"}, {"hash", "abc"}, {"scale", 0.5}, {"rank", 2}}};
  };
  const ServedModel served =
      served_model("tuned", load_model(testing::demo("gpt2"), std::move(options), {}), {});
  EXPECT_EQ(served.method, "none+lora");
  EXPECT_EQ(served.kept.adapters, Json({{{"hash", "abc"}, {"scale", 0.5}}}));
}

TEST_F(Compare, ThePageIsAskedOnce) {
  const auto get = [&](const std::string& path, const std::string& etag) {
    const auto exchange = std::make_shared<MemoryExchange>(path, "");
    exchange->if_none_match(etag);
    handle(*find_route("GET", path).route, service(), exchange);
    return exchange;
  };
  const auto page = get("/", "");
  EXPECT_EQ(page->status, 200);
  EXPECT_THAT(page->text, HasSubstr("<!doctype html>"));
  const std::string policy = page->header("Content-Security-Policy");
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  EXPECT_EQ(get("/", page->header("ETag"))->status, 304);
  EXPECT_EQ(get("/page/app.js", page->header("ETag"))->status, 200);
  EXPECT_EQ(get("/page/nothing.js", "")->status, 404);
  EXPECT_EQ(get("/page/../secret", "")->status, 404);
  EXPECT_EQ(get("/report", "")->status, 404);  // none was given
}

}  // namespace
}  // namespace qwb::serve
