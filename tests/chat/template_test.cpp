// The template engine against jinja2 (tests/golden/make_templates.py): every filter, test,
// function, method and operator on values of every type, and the statements. Equal, or refused by
// name; what jinja2 refuses is refused.
#include <gtest/gtest.h>

#include <optional>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/chat/chat_template.h"

namespace qwb {
namespace {

// The text, or the kind of the error.
struct TemplateResult {
  std::optional<std::string> text;
  ErrorKind kind = ErrorKind::failed;
  std::string error;
};

TemplateResult render_template(const std::string& source, const Json& variables = nullptr,
                               const Json& messages = Json::array(), bool join_parts = false) {
  ChatTemplate::Options options;
  options.variables = variables;
  options.add_generation_prompt = false;
  options.now = 1721980800;
  options.join_parts = join_parts;
  try {
    return {ChatTemplate::from_text(source, nullptr, "t").render(messages, options), {}, {}};
  } catch (const Error& error) {
    return {std::nullopt, error.kind(), error.what()};
  }
}

TEST(Templates, EqualToJinjaOrRefused) {
  const Path path = Path(QWB_SOURCE_DIR) / "tests/golden/chat/templates.json";
  const Json golden = parse_json(read_text(path), path.string());
  int equal = 0, refused = 0;
  for (const Json& item : golden["cases"]) {
    const auto source = item[0].get<std::string>();
    const auto got = render_template(source, golden["variables"]);
    if (item[1].is_null()) {
      EXPECT_FALSE(got.text) << source << " gave " << got.text.value_or("");
    } else if (got.text) {
      EXPECT_EQ(*got.text, item[1].get<std::string>()) << source;
      ++equal;
    } else {
      ++refused;
      EXPECT_EQ(got.kind == ErrorKind::unsupported ||
                    got.error.find("raw block") != std::string::npos ||
                    got.error.find("indent") != std::string::npos ||
                    got.error.find("tojson") != std::string::npos ||
                    got.error.find("__class__") != std::string::npos,
                true)
          << source << " " << got.error;
    }
  }
  EXPECT_GE(equal, 5000);
  EXPECT_LE(refused, 175);  // a known part that is missing may come, none may go
}

TEST(Templates, CasesOfUsers) {
  const Json messages = {{{"role", "user"}, {"content", "<a&b>"}}};
  const auto text = [&](const std::string& source) {
    return render_template(source, nullptr, messages).text.value_or("refused");
  };
  EXPECT_EQ(text("{%- if not tools is defined -%}{%- set tools = none -%}{%- endif -%}{{ tools | "
                 "selectattr('type', 'equalto', "
                 "'x') | list | length > 0 }}"),
            "False");
  EXPECT_EQ(text("{{ \"'\"|safe + messages[0].content }}"), "'&lt;a&amp;b&gt;");
  EXPECT_EQ(text("{{ '11'|int(base=2) }}{{ -0.0 }}{{ 42|round(1) }}"), "3-0.042");
  EXPECT_EQ(text("{% set y = messages[0] %}{{ messages[0] is sameas(y) }}"), "True");
  EXPECT_EQ(text("{{ '<{}|{}>'.format('a', 42) }}{{ [none, none]|sort|length }}{{ [7].0 }}"),
            "<a|42>27");
}

// Python keeps a generator's items until they are asked for, and gives them once.
TEST(Templates, GeneratorsAreDrawnOnce) {
  EXPECT_EQ(
      render_template("{% set g = 'ab'|map('upper') %}{{ g|first }}{{ g|join }}{{ g|list }}").text,
      "AB[]");
  EXPECT_EQ(render_template("{{ 'ab'|map('upper')|length }}").text, std::nullopt);
}

// A loop, its condition and a macro that outlive their place must not reach what is gone.
TEST(Templates, NothingOutlivesItsPlace) {
  EXPECT_EQ(render_template("{% set ns = namespace() %}{% for i in [1, 2, 3] if i > 0 %}{% set "
                            "ns.l = [loop] %}{% endfor %}{{ "
                            "ns.l[0].index }}{{ ns.l[0].length }}")
                .kind,
            ErrorKind::unsupported);
  EXPECT_EQ(render_template(
                "{% set ns = namespace() %}{% macro a(x) %}{% call b() %}{{ x }}{% endcall %}{% "
                "endmacro %}{% macro "
                "b() %}{% set ns.c = caller %}{% endmacro %}{{ a('kept') }}{{ ns.c() }}")
                .text,
            "kept");
  EXPECT_EQ(render_template("{% set ns = namespace(g=[1]) %}{% for i in range(500) %}{% set ns.g = "
                            "ns.g|map('string') %}{% endfor "
                            "%}{{ ns.g|list }}")
                .text,
            std::nullopt);
}

TEST(Templates, PartsAreJoinedWhereATemplateWantsText) {
  const Json parts = {
      {{"role", "user"},
       {"content", {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}}}}};
  EXPECT_EQ(
      render_template("{% for m in messages %}<{{ m.content }}>{% endfor %}", nullptr, parts, true)
          .text,
      "<ab>");
  EXPECT_EQ(render_template("{% for m in messages %}{{ 'x' + m.content }}{% endfor %}", nullptr,
                            parts, true)
                .text,
            "xab");
  EXPECT_EQ(render_template("{% for m in messages %}{% if m.content is string %}{{ m.content }}{% "
                            "else %}{% for p in m.content "
                            "%}[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}",
                            nullptr, parts, true)
                .text,
            "[a][b]");
}

TEST(Templates, IntegersBeyond63BitsAreRefused) {
  EXPECT_EQ(render_template("{{ n }}", Json{{"n", uint64_t{1} << 63}}).kind,
            ErrorKind::unsupported);
  EXPECT_EQ(render_template("{{ 2 ** 63 }}").kind, ErrorKind::unsupported);
  EXPECT_EQ(render_template("{{ 2 ** 62 }}").text, "4611686018427387904");
}

}  // namespace
}  // namespace qwb
