// Chats against those that transformers renders (tests/golden/make_chats.py), and templates that
// mean harm.
#include <gtest/gtest.h>

#include <cstdlib>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/chat/chat_template.h"

namespace qwb {
namespace {

void compare_file(const Path& path) {
  const Json golden = parse_json(read_text(path), path.string());
  for (const Json& c : golden["cases"]) {
    const auto name = c["name"].get<std::string>();
    const auto chat =
        ChatTemplate::from_text(golden["templates"][name].get<std::string>(), c["specials"], name);
    ChatTemplate::Options options;
    options.add_generation_prompt = c["prompt"].get<bool>();
    if (c["tools"].get<bool>()) options.tools = golden["tools"];
    const std::string label = name + " chat " + c["chat"].dump() + " prompt " + c["prompt"].dump() +
                              " tools " + c["tools"].dump();
    try {
      const std::string text = chat.render(golden["chats"][c["chat"].get<size_t>()], options);
      EXPECT_TRUE(c["error"].is_null())
          << label << " should fail: " << c["error"] << "\ngot " << text;
      if (!c["error"].is_null()) continue;
      EXPECT_EQ(text, c["text"].get<std::string>()) << label;
    } catch (const Error& error) {
      EXPECT_FALSE(c["error"].is_null()) << label << ": " << error.what();
      if (c["error"].is_null()) continue;
      const auto expected = c["error"].get<std::string>();
      const bool refusal = expected.starts_with("TemplateError: ");
      EXPECT_EQ(error.kind(), refusal ? ErrorKind::usage : ErrorKind::failed)
          << label << " " << expected << " / " << error.what();
      if (!refusal) continue;
      EXPECT_NE(std::string(error.what()).find(expected.substr(15)), std::string::npos)
          << error.what();
    }
  }
}

TEST(ChatTemplate, RendersAsTransformers) {
  compare_file(Path(QWB_SOURCE_DIR) / "tests/golden/chat/chats.json");
}

// Templates of real models, which are not part of this repository: QWB_LOCAL_CHATS names a file
// made from them.
TEST(ChatTemplate, RendersLocalTemplates) {
  const char* path = std::getenv("QWB_LOCAL_CHATS");
  if (path == nullptr) GTEST_SKIP() << "QWB_LOCAL_CHATS is not set";
  compare_file(path);
}

std::string render(const std::string& source, const Json& variables = nullptr) {
  ChatTemplate::Options options;
  options.variables = variables;
  options.now = 0;
  return ChatTemplate::from_text(source, nullptr, "t").render(Json::array(), options);
}

TEST(ChatTemplate, VariablesAndTime) {
  EXPECT_EQ(render("{{ thinking }}{{ n + 1 }}", Json{{"thinking", "x"}, {"n", 2}}), "x3");
  const std::string year = render("{{ strftime_now('%Y') }}");
  EXPECT_TRUE(year == "1970" || year == "1969") << year;
}

// Filters iterate over lists that nobody else holds: characters, keys, nothing (found by fuzzing,
// as a use after free).
TEST(ChatTemplate, FiltersIterateOverTemporaries) {
  EXPECT_EQ(render("{{ nothing|selectattr('a','eq',1)|list }}{{ 'abc'|map('upper')|join('-') }}{{ "
                   "{'k':1,'j':2}|reject('eq','k')|join }}"),
            "[]A-B-Cj");
  EXPECT_EQ(
      render("{{ 'aab'|unique|join }}{{ {'k':1}|join(',') }}{{ {'a':1,'b':2}|map('length')|sum }}"),
      "abk2");
}

void expect_failure(const std::string& source, const std::string& part) {
  try {
    ADD_FAILURE() << source.substr(0, 100) << " gave " << render(source).substr(0, 100);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << source.substr(0, 100) << ": " << error.what();
  }
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  expect_failure("a\n{{ x.y }}", "line 2");
  expect_failure("a\n\n{% if %}", "line 3");
  expect_failure("{{ 1 + 'a' }}", "int + string");
  expect_failure("{% for x in messages %}", "endfor");
  expect_failure("{{ 'a' ", "missing");
  expect_failure("{{ x | nofilter }}", "nofilter");
  expect_failure("{% include 'x' %}", "include");
  expect_failure("{{ [].append(1) }}", "append");
  expect_failure("{{ raise_exception('no') }}", "no");
  expect_failure("{{ x() }}", "undefined 'x'");
  expect_failure("{% break %}", "outside");
  expect_failure("{{ 1 // 0 }}", "zero");
  expect_failure("{{ 9223372036854775807 + 1 }}", "63 bits");
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  expect_failure(
      "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor "
      "%}{% "
      "endfor %}{% endfor %}",
      "too much");
  expect_failure(
      "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(999) %}{% set ns.s = ns.s + ns.s "
      "%}{% endfor "
      "%}",
      "too much");
  expect_failure(
      "{% set ns = namespace(s=[1]) %}{% for i in range(999) %}{% set ns.s = [ns.s, ns.s] %}{% "
      "endfor %}{{ "
      "ns.s }}",
      "too");
  expect_failure(
      "{% set ns = namespace(s=[1]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor "
      "%}{{ ns.s "
      "}}",
      "nested");
  expect_failure("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recurses");
  expect_failure(
      "{% macro m(x) %}{% for i in [1] %}{% if true %}{{ (((1 + m(x + 1)))) }}{% endif %}{% endfor "
      "%}{% "
      "endmacro %}{{ m(1) }}",
      "recurses");
  expect_failure("{{ 'a' * 999999999 }}", "too");
  expect_failure("{{ range(1000000) }}", "100000");
  expect_failure("{{ " + std::string(1000, '(') + "1" + std::string(1000, ')') + "}}", "deeply");
  expect_failure("{{ " + std::string(100000, '-') + "1 }}", "deeply");
  expect_failure(
      "{{ 1" +
          [] {
            std::string s;
            for (int i = 0; i < 100000; ++i) s += "+1";
            return s;
          }() +
          " }}",
      "too long");
  expect_failure(
      "{{ a" +
          [] {
            std::string s;
            for (int i = 0; i < 100000; ++i) s += ".b";
            return s;
          }() +
          " }}",
      "too long");
  expect_failure(
      [] {
        std::string s;
        for (int i = 0; i < 10000; ++i) s += "{% if 1 %}";
        return s;
      }(),
      "deeply");
  // A namespace inside itself.
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.self = ns %}{{ ns.self.self is defined }}"),
            "True");
}

}  // namespace
}  // namespace qwb
