// The formats: what comes from files never becomes markup, and the page stands alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "lib/report/clean_text.h"
#include "lib/report/gnuplot_script.h"
#include "lib/report/render.h"
#include "lib/report/svg.h"
#include "tests/report/record_helper.h"

namespace qwb::testing {
namespace {

using namespace report;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Something of everything that some format takes for markup.
const std::string kHostile = "<script>alert('x')</script> | `id` \"q\" & ,=1+1 $(x) \\n {a}_b %s";

Report hostile_report() {
  ReportBuilder builder(kHostile);
  builder.add(loss_record("/a", kHostile, 3000000, 33, 1.1, 0.002), "w", kHostile);
  builder.add(loss_record("/b", "gptq", 2000000, 31, 1.02, 0.002), "w", "=cmd()");
  builder.add_problem(kHostile);
  return builder.build();
}

// A reader of RFC 4180.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, {""});
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string& field = rows.back().back();
    if (quoted && text[i] == '"' && i + 1 < text.size() && text[i + 1] == '"')
      field += text[i++];
    else if (text[i] == '"')
      quoted = !quoted;
    else if (!quoted && text[i] == ',')
      rows.back().emplace_back();
    else if (!quoted && text.compare(i, 2, "\r\n") == 0)
      rows.push_back({""}), ++i;
    else
      field += text[i];
  }
  rows.pop_back();
  return rows;
}

TEST(CsvReport, FieldsComeBackWholeAndRowsAreEven) {
  const auto rows = parse_csv(report_csv(hostile_report()));
  ASSERT_EQ(rows.size(), 3u);
  for (const auto& row : rows) EXPECT_EQ(row.size(), rows[0].size());
  EXPECT_EQ(rows[1][0], kHostile);
  EXPECT_EQ(rows[2][0], "'=cmd()");  // no formula
  const auto column = [&](const std::string& title) {
    return static_cast<size_t>(std::find(rows[0].begin(), rows[0].end(), title) - rows[0].begin());
  };
  ASSERT_LT(column("ratio low"), rows[0].size());
  EXPECT_EQ(rows[1][column("perplexity")], "33");
  EXPECT_EQ(rows[1][column("decode (tokens/s)")], "n/a");
  EXPECT_THAT(rows[1].back(), HasSubstr("decode: not measured (qwb-eval --speed)"));
}

TEST(MarkdownReport, CellsStayCells) {
  const std::string text = report_markdown(hostile_report());
  EXPECT_THAT(text, Not(HasSubstr("<script")));
  EXPECT_THAT(text, HasSubstr("&lt;script\\>alert('x')&lt;/script\\> \\| \\`id\\`"));
  // Every row of a table has as many cells as its head.
  std::istringstream lines(text);
  std::string line;
  long cells = 0;
  const std::regex bar("(^|[^\\\\])\\|");
  while (std::getline(lines, line)) {
    if (!line.starts_with("|")) {
      cells = 0;
      continue;
    }
    const long here = std::distance(std::sregex_iterator(line.begin(), line.end(), bar), {});
    EXPECT_EQ(here, cells == 0 ? here : cells) << line;
    cells = here;
  }
}

TEST(TextReport, NoControlCharacterReachesTheTerminal) {
  ReportBuilder builder("t");
  builder.add(size_record("/a\x1b[2J", "rtn\x9b", 5, 3), "w", "a\x1b[31mb\r\x08");
  const std::string text = report_text(builder.build(), false);
  for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
  EXPECT_THAT(report_text(hostile_report(), false), HasSubstr(kHostile));
}

TEST(JsonReport, SaysWhatIsMissingAndMarksTheFront) {
  const Json json = report_json(hostile_report(), {});
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["versions"][0]["name"], kHostile);
  for (const Json& metric : json["metrics"]) {
    EXPECT_EQ(metric["figures"].size(), 2u);
    for (const Json& figure : metric["figures"])
      EXPECT_NE(figure["value"].is_null(), figure["why"].is_null()) << metric["id"];
  }
  EXPECT_EQ(json["pareto"][0]["front"], Json::array({"=cmd()"}));
}

TEST(HtmlReport, NothingFromFilesIsMarkupAndNothingIsFetched) {
  const std::string html = report_html(hostile_report(), {}, {}, kHostile);
  const std::string page = std::regex_replace(html, std::regex("<(style|script)>[^]*?</\\1>"), "");
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)"));
  EXPECT_FALSE(std::regex_search(html, std::regex("(src|href|url)\\s*[=(]\\s*[\"']?https?:")));
  EXPECT_THAT(html, Not(HasSubstr("<link")));
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
}

TEST(HtmlReport, TablesAreWholeWithoutTheScript) {
  const std::string html = report_html(hostile_report(), {}, {}, "none");
  EXPECT_THAT(html, AllOf(HasSubstr("data-value=\"33\""),
                          HasSubstr(">33.000 ± 0.040<small>32.920 to 33.080</small>")));
  EXPECT_THAT(html, HasSubstr("least perplexity lost"));
  for (const std::string tag :
       {"table", "thead", "tbody", "tr", "th", "td", "ul", "li", "main", "body", "small"}) {
    const auto count = [&](const std::string& pattern) {
      const std::regex regex(pattern);
      return std::distance(std::sregex_iterator(html.begin(), html.end(), regex), {});
    };
    EXPECT_EQ(count("<" + tag + "[ >]"), count("</" + tag + ">")) << tag;
  }
}

TEST(Gnuplot, StringsAreQuoted) {
  EXPECT_EQ(gnuplot_quoted("it's `id` \"x\" \\ @y"), "'it’s `id` \"x\" \\ @y'");
  EXPECT_EQ(gnuplot_quoted("a\nb"), "'a b'");
}

TEST(CleanText, ControlsBecomeSpacesAndBrokenBytesMarks) {
  EXPECT_EQ(clean_text("a\tb\x7f"
                       "c"),
            "a b c");
  EXPECT_EQ(clean_text("\xc2\x9b"
                       "x"),
            " x");  // C1
  EXPECT_EQ(clean_text("\xe2\x80\xae"
                       "x\xe2\x81\xa6"),
            " x ");                                                    // overrides of direction
  EXPECT_EQ(clean_text("\xc0\xaf"), "\xef\xbf\xbd\xef\xbf\xbd");       // overlong
  EXPECT_EQ(clean_text("\xed\xa0\x80").substr(0, 3), "\xef\xbf\xbd");  // surrogate
  EXPECT_EQ(clean_text("漢字 ± 🙂"), "漢字 ± 🙂");
  EXPECT_EQ(clean_lines("a\tb\r\n\x1b]52;c;x\x07"), "a\tb \n ]52;c;x ");
}

}  // namespace
}  // namespace qwb::testing
