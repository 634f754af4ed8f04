// Manual pages, the pages beside the tools' mains and completions: all made from what the tools
// declare.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>

#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"
#include "tools/manual/manual.h"

namespace qwb::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

const std::vector<std::string> kAllTools = {"quantize", "eval",  "report",  "cache",
                                            "inspect",  "pull",  "convert", "complete",
                                            "chat",     "serve", "tune",    "merge"};

std::string binary(const std::string& tool) {
  return QWB_BIN_DIR "/qwb-" + tool;
}
std::string page_file(const std::string& tool) {
  return QWB_SOURCE_DIR "/tools/qwb-" + tool + ".md";
}
std::string generate(const std::string& tool, std::vector<std::string> what) {
  what.insert(what.begin(), {binary(tool), "--generate"});
  const RunResult result = run(what);
  EXPECT_EQ(result.code, 0) << result.err;
  return result.out;
}
void put(const Path& file, const std::string& text) {
  std::ofstream(file) << text;
}
bool has_program(const std::string& name) {
  return run({"/bin/sh", "-c", "command -v " + name}).code == 0;
}

void each_option(const Json& declaration, const std::function<void(const Json&)>& look) {
  for (const char* kind : {"options", "positionals"}) {
    for (const Json& option : declaration.at(kind)) look(option);
  }
  for (const Json& command : declaration.at("commands")) each_option(command, look);
}

// Every flag that a tool takes, by its name.
std::map<std::string, std::set<std::string>> all_flags() {
  std::map<std::string, std::set<std::string>> flags;
  for (const std::string& tool : kAllTools) {
    each_option(Json::parse(generate(tool, {"json"})), [&](const Json& option) {
      for (const Json& name : option.at("names")) flags["qwb-" + tool].insert(name);
    });
  }
  return flags;
}

// The flags that a line names and that the tool named before them on that line, else the page's
// own, lacks.
std::vector<std::string> unknown_flags(const std::string& line, std::string tool,
                                       const std::map<std::string, std::set<std::string>>& flags) {
  static const std::regex word("(qwb-[a-z]+)|(--[a-z][a-z0-9-]*)");
  std::vector<std::string> unknown;
  for (std::sregex_iterator match(line.begin(), line.end(), word), end; match != end; ++match) {
    const std::string text = match->str();
    if (flags.contains(text))
      tool = text;
    else if (text.starts_with("--") && !flags.at(tool).contains(text))
      unknown.push_back(text);
    if (text == "--then") tool = "qwb-quantize";  // whose method and flags are its value
  }
  return unknown;
}

// Where the checker is installed, it has nothing to say about `file`.
void check_with(const std::string& checker, const std::string& command, const std::string& file) {
  if (!has_program(checker)) return;
  const RunResult result = run({"/bin/sh", "-c", command + " '" + file + "'"});
  EXPECT_EQ(result.out + result.err, "");
}

TEST(Manual, EveryFlagHasAHelp) {
  for (const std::string& tool : kAllTools) {
    each_option(Json::parse(generate(tool, {"json"})), [&](const Json& option) {
      EXPECT_GT(option.at("help").get<std::string>().size(), 7u) << tool << ": " << option.dump();
    });
  }
}

TEST(Manual, ThePagesHoldTheOptionsThatTheToolsDeclare) {
  for (const std::string& tool : kAllTools) {
    EXPECT_EQ(generate(tool, {"page", page_file(tool)}), read_text(page_file(tool)))
        << "run tools/manual/update.sh";
  }
}

TEST(Manual, ThePagesNameNoFlagThatDoesNotExist) {
  const auto flags = all_flags();
  EXPECT_THAT(unknown_flags("qwb-eval --ppl | qwb-report --ppl --out x", "qwb-pull", flags),
              ElementsAre("--ppl"));
  for (const std::string& tool : kAllTools) {
    for (const std::string& line : lines(read_text(page_file(tool))))
      EXPECT_THAT(unknown_flags(line, "qwb-" + tool, flags), IsEmpty())
          << page_file(tool) << ": " << line;
  }
}

TEST(Manual, EveryPageTellsWhatReadersLookFor) {
  for (const std::string& tool : kAllTools) {
    const std::string page = read_text(page_file(tool));
    for (const char* section :
         {"Synopsis", "Description", "Options", "Examples", "Exit codes", "See also"})
      EXPECT_THAT(page, HasSubstr(std::string("\n## ") + section + "\n")) << tool;
  }
}

TEST(Manual, PagesBecomeRoffThatItsCheckersAccept) {
  const Path folder =
      std::filesystem::temp_directory_path() / ("qwb-manual-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  for (const std::string& tool : kAllTools) {
    const std::string roff = generate(tool, {"man", page_file(tool)});
    EXPECT_THAT(roff, StartsWith(".TH QWB\\-"));
    for (const char* part : {"\n.SH NAME\nqwb\\-", "\n.SH OPTIONS\n", "\\fB\\-\\-color WHEN\\fR",
                             "\n.SH EXIT CODES\n"})
      EXPECT_THAT(roff, HasSubstr(part));
    const std::string file = (folder / (tool + ".1")).string();
    put(file, roff);
    check_with("mandoc", "mandoc -Tlint -Wwarning", file);
    check_with("groff", "groff -man -Tutf8 -ww -z", file);
  }
  std::filesystem::remove_all(folder);
}

TEST(Manual, TextThatLooksLikeRoffStaysText) {
  Declaration declaration;
  declaration.name = "qwb-x";
  declaration.summary = "Does it.";
  DeclaredOption option;
  option.names = {"-a", "--all-of-it"};
  option.help = ".so /etc/passwd\\n 'x'";
  option.group = "Options";
  declaration.options = {option};
  const std::string page =
      "# qwb-x\n\n## Options\n\n## Description\n\n.TH is --a-b, a-b, `\\fB` and **bold-er**, "
      "[a](b)\n\n    "
      ".nf 'q'\n";
  const std::string roff = manual_roff(page, declaration, {"1", "2026-01-02"});
  EXPECT_THAT(roff, StartsWith(".TH QWB\\-X 1 \"2026-01-02\" \"qwb 1\" \"User Commands\"\n"));
  EXPECT_THAT(
      roff,
      HasSubstr(".TP\n\\fB\\-a, \\-\\-all\\-of\\-it\\fR\n\\&.so /etc/passwd\\en \\(aqx\\(aq\n"));
  EXPECT_THAT(roff,
              HasSubstr("\\&.TH is \\-\\-a\\-b, a-b, \\fB\\efB\\fR and \\fBbold\\-er\\fR, a\n"));
  EXPECT_THAT(roff, HasSubstr(".RS 4\n.nf\n\\&.nf \\(aqq\\(aq\n.fi\n.RE\n"));
}

// What bash would offer for the last of `words`.
std::vector<std::string> bash_offers(const std::string& tool,
                                     const std::vector<std::string>& words) {
  const std::string script = "source /dev/stdin; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _" +
                             tool + "; printf '%s\\n' \"${COMPREPLY[@]}\"";
  std::vector<std::string> command = {"/bin/bash", "-c", script, "bash"};
  command.insert(command.end(), words.begin(), words.end());
  const Path file =
      std::filesystem::temp_directory_path() / ("qwb-completion-" + std::to_string(getpid()));
  put(file, generate(tool.substr(4), {"bash"}));
  const RunResult result = run(command, {.stdin_path = file.string()});
  std::filesystem::remove(file);
  EXPECT_EQ(result.err, "");
  std::vector<std::string> found = lines(result.out);
  std::erase(found, "");
  return found;
}

TEST(Completion, BashOffersCommandsFlagsAndValues) {
  if (!has_program("bash")) GTEST_SKIP() << "no bash";
  EXPECT_THAT(bash_offers("qwb_quantize", {"qwb-quantize", "--method", "g"}), ElementsAre("gptq"));
  EXPECT_THAT(bash_offers("qwb_quantize", {"qwb-quantize", "--method", "=", "n"}),
              ElementsAre("none", "nf4"));
  EXPECT_THAT(bash_offers("qwb_quantize", {"qwb-quantize", "--format", "="}),
              IsSupersetOf({"awq", "gguf"}));
  EXPECT_THAT(bash_offers("qwb_quantize", {"qwb-quantize", "--refine", ""}),
              UnorderedElementsAre("off", "codes", "full"));
  EXPECT_THAT(bash_offers("qwb_quantize", {"qwb-quantize", "--samples", ""}), IsEmpty());
  EXPECT_THAT(bash_offers("qwb_quantize", {"qwb-quantize", "--asym"}), ElementsAre("--asymmetric"));
  EXPECT_THAT(bash_offers("qwb_convert", {"qwb-convert", "m", "--type", "q4_"}),
              UnorderedElementsAre("q4_0", "q4_1", "q4_k"));
  EXPECT_THAT(bash_offers("qwb_eval", {"qwb-eval", "--protocol", "h"}), Not(IsEmpty()));
  EXPECT_THAT(bash_offers("qwb_eval", {"qwb-eval", "--task", "hel"}), ElementsAre("hellaswag="));
  EXPECT_THAT(bash_offers("qwb_report", {"qwb-report", "--output", "h"}), ElementsAre("html"));
  EXPECT_THAT(bash_offers("qwb_cache", {"qwb-cache", "w"}), ElementsAre("why"));
  EXPECT_THAT(bash_offers("qwb_cache", {"qwb-cache", "--color", "always", "path", ""}),
              ElementsAre("newest"));
  EXPECT_THAT(bash_offers("qwb_cache", {"qwb-cache", "why", "--method", "aw"}), ElementsAre("awq"));
}

TEST(Completion, BashOffersPathsWithSpaces) {
  if (!has_program("bash")) GTEST_SKIP() << "no bash";
  const Path folder =
      std::filesystem::temp_directory_path() / ("qwb paths " + std::to_string(getpid()));
  std::filesystem::create_directories(folder / "a model");
  const std::string place = (folder / "a").string(), model = (folder / "a model").string();
  EXPECT_THAT(bash_offers("qwb_eval", {"qwb-eval", place}), ElementsAre(model));
  EXPECT_THAT(bash_offers("qwb_quantize", {"qwb-quantize", "--model", place}), ElementsAre(model));
  EXPECT_THAT(bash_offers("qwb_pull", {"qwb-pull", place}), IsEmpty());
  std::filesystem::remove_all(folder);
}

TEST(Completion, OtherShellsTakeTheirs) {
  for (const std::string& tool : kAllTools) {
    EXPECT_THAT(generate(tool, {"zsh"}), StartsWith("#compdef qwb-" + tool + "\n"));
    EXPECT_THAT(generate(tool, {"fish"}), HasSubstr("complete -c qwb-" + tool + " "));
    for (const char* shell : {"zsh", "fish"}) {
      if (!has_program(shell)) continue;
      const RunResult result =
          run({"/bin/sh", "-c",
               binary(tool) + " --generate " + shell + " | " + shell + " -n /dev/stdin"});
      EXPECT_EQ(result.code, 0) << tool << ": " << result.err;
    }
  }
}

TEST(Manual, WhatCannotBeGeneratedIsRefused) {
  const RunResult result = run({binary("eval"), "--generate", "pdf"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("--generate makes man PAGE"));
  EXPECT_EQ(run({binary("eval"), "--generate", "man", "/nowhere/page.md"}).code, 3);
  EXPECT_THAT(run({binary("eval"), "--help"}).out, Not(HasSubstr("--generate")));
}

TEST(Version, NamesBuildInstructionSetsAndLibraries) {
  for (const std::string& tool : kAllTools) {
    const std::vector<std::string> text = lines(run({binary(tool), "--version"}).out);
    ASSERT_EQ(text.size(), 5u);
    EXPECT_THAT(text[0], StartsWith("qwb-" + tool + " 0.1.0 ("));
    EXPECT_THAT(text[1], StartsWith("build: "));
    EXPECT_THAT(text[3], StartsWith("instruction sets: built for "));
    for (const char* library :
         {"oneDNN ", "Highway 1.", "PCRE2 10.", "ICU 7", "libcurl ", "OpenSSL 3.", "libzip "})
      EXPECT_THAT(text[4], HasSubstr(library));
  }
}

TEST(Version, AsJsonWhereverTheFlagStands) {
  const Json here =
      Json::parse(run({binary("eval"), "--version", "--json"}).out).at("instruction_sets");
  const std::string least = here.at("available").back();
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{"--version", "--json"}, {"--json", "--version"}}) {
    const RunResult result =
        run({binary("eval"), flags[0], flags[1]}, {.environment = {{"QWB_ISA", least}}});
    const Json json = Json::parse(result.out);
    EXPECT_EQ(json.at("schema"), 1);
    EXPECT_EQ(json.at("version"), "0.1.0");
    EXPECT_EQ(json.at("instruction_sets").at("in_use"), least);
    EXPECT_THAT(json.at("instruction_sets").at("built_for"), Contains(Json(least)));
    EXPECT_TRUE(json.at("libraries").contains("oneDNN"));
    EXPECT_TRUE(json.at("build").at("compiler").is_string());
  }
}

}  // namespace
}  // namespace qwb::testing
