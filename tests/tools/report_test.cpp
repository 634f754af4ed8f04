// qwb-report as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/report/record_helper.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ReportTool : public ToolTest {
 protected:
  // Two versions and their original.
  std::string results() const {
    return write("results.json",
                 loss_record("/models/original", "none", 9000000, 30, 0, 0.002).dump() + "\n" +
                     loss_record("/a", "rtn", 3000000, 33, 1.1, 0.002).dump() + "\n" +
                     loss_record("/b", "gptq", 2000000, 31, 1.02, 0.002).dump() + "\n");
  }
  std::string text_of(const std::string& name) const { return read_text(file(name)); }
  bool exists(const std::string& name) const { return std::filesystem::exists(file(name)); }
  static bool has_gnuplot() { return std::system("command -v gnuplot >/dev/null") == 0; }
  RunOptions no_gnuplot() const { return {.environment = {{"PATH", file("empty").string()}}}; }
};

TEST_F(ReportTool, EveryFlagHasHelp) {
  const std::string help = output("report", {"--help"});
  for (const char* flag : {"--out", "--plots", "--output", "--module", "--baseline", "--title",
                           "--no-cached", "--json"})
    EXPECT_THAT(help, HasSubstr(flag));
}

TEST_F(ReportTool, WrongFlagsAreUsageErrors) {
  const std::string r = results();
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {r, "--output", "xml"},
      {r, "--output", "md", "--json"},
      {r, "--out", "page.pdf"},
      {r, "--out", "page"},
      {r, "--out", file("a.md"), "--out", file("a.md")},
      {r, "--out", (file("folder.md"))},
      {r, "--baseline", gpt2_}};
  std::filesystem::create_directory(file("folder.md"));
  for (const auto& arguments : wrong)
    EXPECT_EQ(tool("report", arguments).code, 2) << ::testing::PrintToString(arguments);
}

TEST_F(ReportTool, TheTableIsOnStandardOutput) {
  const std::string text = output("report", {results()});
  EXPECT_THAT(text, HasSubstr("What was lost"));
  EXPECT_THAT(text, HasSubstr("33.000 ± 0.040"));
  EXPECT_THAT(text, HasSubstr("least perplexity lost of 2 measured"));
  EXPECT_THAT(text, HasSubstr("not measured (qwb-eval --speed)"));
  EXPECT_THAT(output("report", {results(), "--output", "md", "--title", "Mine"}),
              StartsWith("# Mine\n"));
  EXPECT_THAT(output("report", {results(), "--output", "csv"}),
              StartsWith("version,artifact,method,bits,"));
  EXPECT_THAT(output("report", {results(), "--output", "html"}), StartsWith("<!doctype html>"));
  EXPECT_EQ(parse_json(output("report", {results(), "--output", "json"}), "")["versions"].size(),
            3u);
  EXPECT_EQ(json("report", {results()})["versions"][2]["name"], "b");
}

TEST_F(ReportTool, EveryFormatBecomesAFile) {
  std::vector<std::string> arguments = {results(), "--title", "A & <b>"};
  for (const char* name : {"r.html", "r.md", "r.csv", "r.json", "r.txt"})
    arguments.insert(arguments.end(), {"--out", file(name).string()});
  output("report", arguments);
  EXPECT_THAT(text_of("r.html"), HasSubstr("<h1>A &amp; &lt;b&gt;</h1>"));
  EXPECT_THAT(text_of("r.md"), StartsWith("# A &amp; &lt;b\\>"));
  EXPECT_EQ(lines(text_of("r.csv")).size(), 4u);
  EXPECT_EQ(parse_json(text_of("r.json"), "")["title"], "A & <b>");
  EXPECT_EQ(text_of("r.txt"), output("report", {results()}) + "\n");
  // The same inputs, the same bytes.
  const std::string first = text_of("r.html");
  EXPECT_EQ(tool("report", arguments).code, 2);  // they are there already
  arguments.emplace_back("--force");
  output("report", arguments);
  EXPECT_EQ(text_of("r.html"), first);
}

TEST_F(ReportTool, NamesMayBeGiven) {
  const std::string one = write("one.json", loss_record("/a", "rtn", 3, 33, 1.1, 0.002).dump());
  const Json report = json("report", {"my | name=" + one, results()});
  EXPECT_EQ(report["versions"][0]["name"], "my | name");
  const std::string odd =
      write("odd=name.json", loss_record("/c", "rtn", 3, 33, 1.1, 0.002).dump());
  EXPECT_EQ(json("report", {odd})["versions"][0]["name"], "c");
}

TEST_F(ReportTool, DamagedInputsAreToldAndTheRestReported) {
  Json old = size_record("/a", "rtn", 5, 3);
  old["schema"] = 1;
  const std::string bad = write("bad.json", "{\"schema\":\n");
  const std::string stale = write("old.json", old.dump() + "\n");
  const RunResult damaged =
      tool("report", {bad, results(), stale, file("none.json").string(), "--out", file("r.md")});
  EXPECT_EQ(damaged.code, 1);  // of the first
  EXPECT_THAT(damaged.err, HasSubstr("bad.json: line 1"));
  EXPECT_THAT(damaged.err, HasSubstr("schema 1; this version reads schema 2"));
  EXPECT_THAT(damaged.err, HasSubstr("none.json"));
  EXPECT_THAT(damaged.out, HasSubstr("What was lost"));
  EXPECT_THAT(text_of("r.md"), HasSubstr("## Problems"));
  const RunResult only_old = tool("report", {stale, "--out", file("s.md")});
  EXPECT_EQ(only_old.code, 5);
  EXPECT_FALSE(exists("s.md"));
  EXPECT_EQ(tool("report", {file("none.json")}).code, 3);
}

TEST_F(ReportTool, PlacesThatCannotBeWrittenAreToldBeforeTheWork) {
  const std::string r = results(), plain = write("plain", "x");
  for (const std::string& place :
       {file("no/such/folder/r.md").string(), plain + "/r.md", std::string("/proc/r.md")}) {
    const RunResult result =
        tool("report", {r, "--out", place, "--out", file("first.csv").string()});
    EXPECT_NE(result.code, 0) << place;
    EXPECT_EQ(result.out, "") << place;
    EXPECT_FALSE(exists("first.csv"));
  }
  const RunResult full = tool("report", {r, "--out", file("r.html")}, {.file_size_limit = 2000});
  EXPECT_EQ(full.code, 1);
  EXPECT_FALSE(exists("r.html"));
}

TEST_F(ReportTool, WithoutGnuplotPagesHaveTablesAndPlotsAreAnError) {
  const RunResult page = tool("report", {results(), "--out", file("r.html")}, no_gnuplot());
  EXPECT_EQ(page.code, 0) << page.err;
  EXPECT_THAT(page.err, HasSubstr("apt-get install gnuplot-nox"));
  EXPECT_THAT(text_of("r.html"), HasSubstr("No plots: gnuplot is not in the PATH"));
  const RunResult plots = tool("report", {results(), "--plots", file("plots")}, no_gnuplot());
  EXPECT_EQ(plots.code, 5);
  EXPECT_THAT(plots.err, HasSubstr("apt-get install gnuplot-nox"));
  EXPECT_EQ(tool("report", {results()}, no_gnuplot()).code, 0);
}

TEST_F(ReportTool, PlotsAreSvgAndPng) {
  if (!has_gnuplot()) GTEST_SKIP() << "no gnuplot";
  output("report", {results(), "--plots", file("plots"), "--out", file("r.html")});
  for (const char* name : {"size", "loss", "perplexity-against-bpw"}) {
    EXPECT_THAT(text_of(std::string("plots/") + name + ".svg"), HasSubstr("<svg"));
    EXPECT_THAT(text_of(std::string("plots/") + name + ".png"), StartsWith("\x89PNG"));
  }
  EXPECT_THAT(text_of("r.html"), HasSubstr("<svg role=\"img\""));
}

TEST_F(ReportTool, HostileRecordsBecomeNeitherMarkupNorCommands) {
  const std::string evil = "<img src=x onerror=alert(1)>`touch " + file("pwned").string() + "`'|\"";
  Json record = loss_record("/" + evil, evil, 3, 33, 1.1, 0.002);
  record["problems"] = Json::array({evil});
  const std::string input = write("evil.json", record.dump());
  output("report",
         {input, results(), "--title", evil, "--out", file("r.html"), "--out", file("r.md")});
  EXPECT_THAT(text_of("r.html"), Not(HasSubstr("<img")));
  EXPECT_THAT(text_of("r.md"), Not(HasSubstr("<img")));
  EXPECT_FALSE(exists("pwned"));
}

TEST_F(ReportTool, FoldersTellWhatTheyAreAndWhatTheCacheKeeps) {
  const std::string artifact = file("nf4").string();
  output("quantize", {"--model", gpt2_, "--method", "nf4", "--out", artifact});
  const Json before = json("report", {gpt2_, artifact});
  EXPECT_EQ(before["versions"].size(), 2u);
  EXPECT_EQ(before["versions"][1]["settings"]["block_size"], 64);
  const auto figure = [](const Json& report, const std::string& id, size_t version) {
    for (const Json& metric : report["metrics"]) {
      if (metric["id"] == id) return metric["figures"][version];
    }
    return Json();
  };
  EXPECT_GT(figure(before, "bpw", 1)["value"].get<double>(), 4);
  EXPECT_EQ(before["block_errors"][0]["rows"].size(), 4u);
  EXPECT_GT(before["block_errors"][0]["rows"][3]["errors"][0].get<double>(), 0);
  EXPECT_TRUE(figure(before, "perplexity", 1)["value"].is_null());
  const Json measured = json("eval", {artifact, "--ppl", "--windows", "2"});
  const Json after = json("report", {gpt2_, artifact});
  EXPECT_EQ(figure(after, "perplexity", 1)["value"], measured["perplexity"]["value"]);
  EXPECT_EQ(figure(after, "ratio", 1)["value"], measured["perplexity"]["ratio"]);
  EXPECT_EQ(figure(after, "perplexity", 0)["value"], measured["perplexity"]["baseline_value"]);
  EXPECT_TRUE(after["versions"][0]["original"].get<bool>());
  const Json without = json("report", {gpt2_, artifact, "--no-cached"});
  EXPECT_TRUE(figure(without, "perplexity", 1)["value"].is_null());
}

TEST_F(ReportTool, HistogramsOfAModule) {
  const std::string artifact = file("nf4").string(), packed = file("packed").string();
  output("quantize", {"--model", llama_, "--method", "nf4", "--out", artifact});
  const std::string module = "model.layers.0.mlp.up_proj";
  const Json report = json("report", {artifact, "--module", module});
  ASSERT_EQ(report["modules"].size(), 1u);
  int64_t before = 0, after = 0;
  for (const Json& n : report["modules"][0]["before"]) before += n.get<int64_t>();
  for (const Json& n : report["modules"][0]["after"]) after += n.get<int64_t>();
  EXPECT_EQ(before, 640 * 256);
  EXPECT_EQ(after, 640 * 256);
  // A packed format names no original.
  output("convert", {artifact, packed, "--to", "bitsandbytes"});
  const RunResult lost = tool("report", {packed, "--module", module, "--json"});
  EXPECT_EQ(lost.code, 3);
  EXPECT_THAT(lost.err, HasSubstr("name it by --baseline"));
  EXPECT_EQ(json("report", {packed, "--module", module, "--baseline", llama_})["modules"].size(),
            1u);
  const RunResult lone = tool("report", {llama_, "--module", module});
  EXPECT_EQ(lone.code, 1);
  EXPECT_THAT(lone.err, HasSubstr("no input is one"));
  const RunResult typo = tool("report", {artifact, "--module", "model.layers.0.mlp.up_prox"});
  EXPECT_EQ(typo.code, 3);
  EXPECT_THAT(typo.out, HasSubstr("bits per weight"));
}

}  // namespace
}  // namespace qwb::testing
