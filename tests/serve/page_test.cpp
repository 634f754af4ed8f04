// The page in Chromium, as people use it: with a mouse, with the keyboard alone, on a narrow
// screen, in the dark, and with answers that would like to run something. Skipped, with the reason,
// where chromium and its driver are missing. QWB_AXE=FILE also checks it with axe-core
// (axe.min.js).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "lib/base/file.h"
#include "lib/serve/api/routes.h"
#include "lib/serve/http/server.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/serve/browser_helper.h"
#include "tests/serve/demo_model_helper.h"
#include "tests/serve/exchange_helper.h"

namespace qwb::serve {
namespace {

using ::testing::HasSubstr;

constexpr const char* kReady = "return !document.getElementById('send').disabled";
constexpr const char* kTexts =
    "return [...document.querySelectorAll('.column')].map(c => [...c.querySelectorAll('.answer')]"
    ".at(-1).textContent)";

// A server with three versions, and a browser on its page.
class PageInBrowser : public ::testing::Test {
 protected:
  struct World {
    testing::Scratch scratch{"page"};
    std::unique_ptr<Service> service;
    std::unique_ptr<Server> server;
    std::unique_ptr<Browser> browser;
    std::string reason;
    StopSource stop;
    std::thread thread;
    std::mutex mutex;
    std::vector<std::string> asked;  // paths

    World() {
      browser = Browser::start(scratch.path(), reason);
      if (browser == nullptr) return;
      const Path four = scratch.path() / "four";
      testing::make_artifact(testing::demo("gpt2"), "rtn", four, "");
      std::vector<ServedModel> models;
      models.push_back(demo_model("full"));
      models.push_back(demo_model("twin"));
      models.push_back(demo_model("four", four));
      service = std::make_unique<Service>(
          std::move(models), ServiceSettings{.engine = demo_limits(), .max_tokens = {}});
      ServerSettings settings;
      settings.port = 0;
      server = std::make_unique<Server>(*service, settings, [this](const RequestLog& log) {
        const std::lock_guard lock(mutex);
        asked.push_back(log.path);
      });
      thread = std::thread([this] { server->run(stop.token()); });
    }
    ~World() {
      browser.reset();
      stop.request();
      if (thread.joinable()) thread.join();
    }
    size_t requests() {
      const std::lock_guard lock(mutex);
      return asked.size();
    }
  };
  static std::unique_ptr<World>& world() {
    static std::unique_ptr<World> one;
    return one;
  }
  static void SetUpTestSuite() { world() = std::make_unique<World>(); }
  static void TearDownTestSuite() { world().reset(); }
  static Browser& browser() { return *world()->browser; }

  void SetUp() override {
    if (world()->browser == nullptr) GTEST_SKIP() << world()->reason;
    browser().width(1200);
    browser().dark(false);
    browser().open("http://127.0.0.1:" + std::to_string(world()->server->port()) + "/");
    ASSERT_TRUE(browser().wait(kReady));
  }
  static void set(const std::string& id, const std::string& value) {
    browser().run(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('change'))",
        {id, value});
  }
  static void click(const std::string& selector) {
    browser().run("document.querySelector(arguments[0]).click()", {selector});
  }
  static void ask(const std::string& prompt, int tokens) {
    set("prompt", prompt);
    set("max-tokens", std::to_string(tokens));
    click("#send");
  }
  static std::string problem() {
    return browser().run("return document.getElementById('problem').textContent");
  }
};

TEST_F(PageInBrowser, StreamsIntoThreeColumnsAndMarksTheDeparture) {
  ask("Who was the king?", 60);
  // It comes while it is made.
  EXPECT_TRUE(
      browser().wait("return document.getElementById('send').disabled && "
                     "(document.querySelector('.answer')?.textContent.length ?? 0) > 3"));
  ASSERT_TRUE(browser().wait(kReady));
  EXPECT_EQ(problem(), "");
  const Json texts = browser().run(kTexts);
  ASSERT_EQ(texts.size(), 3u);
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_NE(texts[0], texts[2]);
  // What the API says to the same.
  const auto exchange = std::make_shared<MemoryExchange>(
      "/qwb/v1/compare", R"({"models": ["full", "four"], "temperature": 0, "max_tokens": 60,
      "messages": [{"role": "user", "content": "Who was the king?"}], "along": false})");
  handle(*find_route("POST", "/qwb/v1/compare").route, *world()->service, exchange);
  exchange->wait();
  Json departure;
  std::vector<std::string> said(2);
  std::istringstream lines(exchange->text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("data: {")) continue;
    const Json event = Json::parse(line.substr(6));
    if (event["type"] == "departure") departure = event["departure"];
    if (event["type"] == "text") said[event["column"].get<size_t>()] += event["text"];
  }
  EXPECT_EQ(texts[0], said[0]);
  EXPECT_EQ(texts[2], said[1]);
  ASSERT_TRUE(departure.is_object());
  const Json marked = browser().run(
      "const mark = document.querySelectorAll('.column')[2].querySelector('.departs');"
      "return [[...mark.parentElement.children].indexOf(mark), mark.textContent, mark.title]");
  EXPECT_EQ(marked[0], departure["index"]);
  EXPECT_EQ(marked[1], departure["column"]["text"]);
  EXPECT_THAT(marked[2].get<std::string>(),
              HasSubstr("at token " + std::to_string(departure["index"].get<int64_t>() + 1) + ":"));
  EXPECT_THAT(browser().run("return document.querySelectorAll('.column')[1].textContent"),
              HasSubstr("No departure from full in 60 tokens."));
  EXPECT_THAT(browser().run("return document.getElementById('status').textContent"),
              HasSubstr("full gave the same 60 tokens twice"));
}

TEST_F(PageInBrowser, StopsOneColumn) {
  set("mode", "at_once");
  click("#self-check");
  click("#along");
  ask("Tell me of the war", 200);
  ASSERT_TRUE(
      browser().wait("return [...document.querySelectorAll('.answer')].length === 3 && "
                     "[...document.querySelectorAll('.answer')].every(a => a.textContent)"));
  click(".column:nth-child(2) > header button[aria-label^=Stop]");
  ASSERT_TRUE(browser().wait(kReady));
  const Json ends = browser().run(
      "return [...document.querySelectorAll('.column')].map(c => [...c.querySelectorAll('dd')]"
      ".map(d => d.textContent).find(t => t.includes('ended by')))");
  EXPECT_THAT(ends[0].get<std::string>(), HasSubstr("ended by the most tokens"));
  EXPECT_THAT(ends[1].get<std::string>(), HasSubstr("ended by stopped"));
  EXPECT_THAT(ends[2].get<std::string>(), HasSubstr("ended by the most tokens"));
}

// As the record of somebody who wishes no good.
Json hostile_record() {
  const std::string text =
      "<script>window.hostile = 1</script><img src=/hostile.png onerror='window.hostile = 2'>"
      "<img src=http://127.0.0.1:9/x.png> ![x](http://127.0.0.1:9/y.png) "
      "[a](javascript:window.hostile=3) <a href='/hostile'>b</a><style>*{display:none}</style>"
      "<iframe src=/hostile></iframe> \u202Eturned\u202C \x1b[2J\x07 \u2028 end";
  const Json column = {{"model", "full" + text},
                       {"pieces", Json::array({Json::array({text, Json::array({1})})})},
                       {"error", text},
                       {"departure", {{"reason", text}}},
                       {"along", {{"reason", text}}}};
  const Json turn = {{"prompt", text},
                     {"system", text},
                     {"form", "text"},
                     {"base", nullptr},
                     {"fresh", false},
                     {"mode", "in_turns"},
                     {"self_check", nullptr},
                     {"settings", Json::object()},
                     {"columns", Json::array({column})}};
  const Json version = {{"name", "full" + text},
                        {"method", text},
                        {"bits", 4},
                        {"bpw", 4},
                        {"bytes", 4},
                        {"memory_bytes", 4},
                        {"context", 4},
                        {"kv_bytes_per_token", 4},
                        {"quality", nullptr}};
  return {
      {"schema", "qwb-compare/1"},          {"created", text},   {"base", text},
      {"versions", Json::array({version})}, {"energy", nullptr}, {"turns", Json::array({turn})}};
}

TEST_F(PageInBrowser, HostileAnswersRunNothingAndAskNothing) {
  browser().run(
      "window.violations = 0;"
      "document.addEventListener('securitypolicyviolation', () => ++window.violations)");
  const Path file = world()->scratch.path() / "hostile.json";
  std::ofstream(file) << hostile_record().dump();
  const Json before = browser().run("return performance.getEntriesByType('resource').length");
  const size_t requests = world()->requests();
  browser().type("#import", file.string());
  ASSERT_TRUE(browser().wait("return document.querySelectorAll('.answer').length === 1"))
      << problem();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // that a request would take
  EXPECT_EQ(browser().run("return performance.getEntriesByType('resource').length"), before);
  EXPECT_EQ(world()->requests(), requests);
  EXPECT_EQ(browser().run("return [window.hostile ?? null, window.violations]"),
            Json({nullptr, 0}));
  EXPECT_EQ(browser().run("return document.querySelectorAll('#columns script, #columns img, "
                          "#columns a, #columns iframe, #columns style').length"),
            0);
  const std::string shown = browser().run("return document.querySelector('.answer').textContent");
  EXPECT_THAT(shown, HasSubstr("<script>window.hostile = 1</script>"));
  EXPECT_THAT(shown, HasSubstr("U+202Eturned"));
  EXPECT_THAT(shown, HasSubstr("\u241B[2J\u2407"));
  EXPECT_EQ(browser().run("return /[\\u202e\\u001b]/.test(document.body.textContent)"), false);
}

// The echo of a prompt, and a name that is none of an element's own.
TEST_F(PageInBrowser, HostilePromptsAreTexts) {
  ask("<img src=x onerror='window.hostile = 1'> \u202E", 2);
  ASSERT_TRUE(browser().wait(kReady));
  EXPECT_EQ(problem(), "");
  EXPECT_EQ(browser().run("return [window.hostile ?? null, document.images.length]"),
            Json({nullptr, 0}));
  EXPECT_EQ(browser().run("return document.querySelector('.said').textContent"),
            "<img src=x onerror='window.hostile = 1'> U+202E");
}

TEST_F(PageInBrowser, TheKeyboardAloneIsEnough) {
  const auto focused = [&] { return browser().run("return document.activeElement.id"); };
  std::vector<std::string> stops;
  for (int i = 0; i < 8 && focused() != "prompt"; ++i) browser().press({kTab});
  ASSERT_EQ(focused(), "prompt");
  set("max-tokens", "20");
  browser().press({"T", "h", "e"});
  browser().press({kEnter}, kControl);
  ASSERT_TRUE(browser().wait("return document.querySelectorAll('.departure').length > 0"));
  ASSERT_TRUE(browser().wait(kReady));
  EXPECT_EQ(problem(), "");
  browser().press({"2"}, kAlt);
  EXPECT_EQ(focused(), "column-1");
  // From there to the tokens along the base's answer, and from token to token.
  browser().run(
      "document.querySelectorAll('.column')[1].querySelectorAll('details')"
      ".forEach(d => d.open = true)");
  const auto on_token = "return document.activeElement.classList.contains('token')";
  for (int i = 0; i < 12 && browser().run(on_token) != true; ++i) browser().press({kTab});
  ASSERT_EQ(browser().run(on_token), true);
  browser().press({kRight, kRight});
  EXPECT_THAT(browser().run("return document.activeElement.closest('details')"
                            ".querySelector('.told').textContent"),
              HasSubstr("Token 3 "));
  // Escape stops what runs.
  set("max-tokens", "400");
  browser().run("document.getElementById('prompt').focus()");
  browser().press({"M", "y"});
  browser().press({kEnter}, kControl);
  ASSERT_TRUE(
      browser().wait("return !document.getElementById('stop').disabled && "
                     "[...document.querySelectorAll('.answer')].length === 6 && "
                     "document.querySelectorAll('.answer')[1].textContent.length > 3"));
  browser().press({kEscape});
  ASSERT_TRUE(browser().wait(kReady, 5));
  EXPECT_THAT(browser().run("return document.querySelector('.column').textContent"),
              HasSubstr("ended by stopped"));
}

TEST_F(PageInBrowser, NarrowDarkAndLight) {
  ask("A_long_word_without_any_place_to_break_it_that_is_wider_than_a_telephone_is", 20);
  ASSERT_TRUE(browser().wait(kReady));
  browser().run("document.querySelectorAll('details').forEach(d => d.open = true)");
  std::vector<Json> colours;
  for (const bool dark : {false, true}) {
    browser().dark(dark);
    for (const int pixels : {360, 1200}) {
      browser().width(pixels);
      EXPECT_LE(browser().run("return document.documentElement.scrollWidth"), pixels);
    }
    colours.push_back(browser().run("return getComputedStyle(document.body).backgroundColor"));
  }
  EXPECT_EQ(colours[0], "rgb(255, 255, 255)");
  EXPECT_NE(colours[0], colours[1]);
}

std::string saved_file(const Path& file) {
  for (int i = 0; i < 200 && !std::filesystem::exists(file); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return read_text(file);
}

TEST_F(PageInBrowser, WhatIsExportedIsImportedAgain) {
  ask("The \u202E end", 8);
  ASSERT_TRUE(browser().wait(kReady));
  const Json texts = browser().run(kTexts);
  const Path folder = world()->scratch.path();
  click("#export-json");
  const std::string first = saved_file(folder / "qwb-compare.json");
  click("#export-markdown");
  EXPECT_THAT(saved_file(folder / "qwb-compare.md"), HasSubstr("### four\n"));
  browser().open("http://127.0.0.1:" + std::to_string(world()->server->port()) + "/");
  ASSERT_TRUE(browser().wait(kReady));
  std::filesystem::rename(folder / "qwb-compare.json", folder / "first.json");
  browser().type("#import", (folder / "first.json").string());
  ASSERT_TRUE(browser().wait("return document.querySelectorAll('.answer').length === 3"));
  EXPECT_EQ(browser().run(kTexts), texts);
  click("#export-json");
  EXPECT_EQ(saved_file(folder / "qwb-compare.json"), first);
}

TEST_F(PageInBrowser, ASetOfPromptsEndsInATableThatIsExported) {
  set("max-tokens", "8");
  set("prompts", "The city\n\nThe king\n");
  click("#run-batch");
  ASSERT_TRUE(browser().wait("return document.querySelectorAll('.answer').length === 6"));
  ASSERT_TRUE(browser().wait(kReady));
  const std::string cells =
      "return [...document.querySelectorAll('#summary tbody tr')].map(r => [...r.children]"
      ".map(c => c.textContent))";
  const Json shown = browser().run(cells);
  ASSERT_EQ(shown.size(), 3u);
  EXPECT_EQ(shown[1][0], "twin");
  EXPECT_EQ(shown[1][1], "2 of 2");
  EXPECT_EQ(shown[1][2], "0 of 2");
  EXPECT_EQ(shown[1][4], "100.0 %");
  EXPECT_EQ(shown[2][2], "2 of 2");
  const Path folder = world()->scratch.path();
  for (const char* name : {"qwb-compare.json", "qwb-compare.md"})
    std::filesystem::remove(folder / name);
  click("#export-markdown");
  EXPECT_THAT(saved_file(folder / "qwb-compare.md"),
              HasSubstr("## A set of 2 prompts\n\n| version | answers |"));
  EXPECT_THAT(saved_file(folder / "qwb-compare.md"), HasSubstr("| twin | 2 of 2 | 0 of 2 |"));
  click("#export-json");
  saved_file(folder / "qwb-compare.json");
  click("#fresh");
  EXPECT_EQ(browser().run(cells).size(), 0u);
  browser().type("#import", (folder / "qwb-compare.json").string());
  ASSERT_TRUE(browser().wait("return document.querySelectorAll('.answer').length === 6"));
  EXPECT_EQ(browser().run(cells), shown);
}

TEST_F(PageInBrowser, AxeFindsNothing) {
  const char* const axe = std::getenv("QWB_AXE");
  if (axe == nullptr) GTEST_SKIP() << "QWB_AXE does not name axe-core's axe.min.js";
  ask("Who was the king?", 20);
  ASSERT_TRUE(browser().wait(kReady));
  browser().run("document.querySelectorAll('details').forEach(d => d.open = true)");
  browser().run(read_text(axe));
  for (const bool dark : {false, true}) {
    browser().dark(dark);
    const Json found = browser().run_later(
        "const done = arguments[0]; axe.run(document).then(r => done(r.violations.map(v => "
        "v.id + ': ' + v.nodes[0].html)), e => done([String(e)]))");
    EXPECT_EQ(found, Json::array()) << (dark ? "dark" : "light");
  }
}

}  // namespace
}  // namespace qwb::serve
