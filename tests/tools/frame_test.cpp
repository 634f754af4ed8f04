// The frame of the tools, through a real executable (probe.cpp).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "tests/tools/run_helper.h"

namespace qwb::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

RunResult probe(std::vector<std::string> arguments, RunOptions options = {}) {
  options.environment.try_emplace("QWB_THREADS", "");
  options.environment.try_emplace("QWB_MODEL", "");
  options.environment.try_emplace("NO_COLOR", "");
  arguments.insert(arguments.begin(), QWB_PROBE);
  return run(arguments, options);
}

TEST(Frame, HelpTellsFlagsAndExamplesOnStdout) {
  for (const char* flag : {"-h", "--help"}) {
    const RunResult result = probe({flag});
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.err, "");
    for (const char* word : {"Does what a test asks for.", "--json", "-q,--quiet", "--threads",
                             "--color", "-n,--dry-run", "--version"}) {
      EXPECT_THAT(result.out, HasSubstr(word));
    }
    EXPECT_THAT(result.out, HasSubstr("Examples:\n  qwb-probe flags"));
  }
}

TEST(Frame, VersionNamesTheTool) {
  const RunResult result = probe({"--version"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, StartsWith("qwb-probe 0.1.0"));
}

TEST(Frame, WrongCommandLinesAreOneLineAndTwo) {
  const std::vector<std::vector<std::string>> wrong = {{},
                                                       {"flags", "--nonsense"},
                                                       {"flags", "--threads", "0"},
                                                       {"flags", "--threads", "x"},
                                                       {"flags", "--color", "red"},
                                                       {"flags", "more"}};
  for (const auto& arguments : wrong) {
    const RunResult result = probe(arguments);
    EXPECT_EQ(result.code, 2);
    EXPECT_EQ(result.out, "");
    ASSERT_EQ(lines(result.err).size(), 1u) << result.err;
    EXPECT_THAT(result.err, StartsWith("qwb-probe: error: "));
    EXPECT_THAT(result.err, HasSubstr("see qwb-probe --help"));
  }
}

TEST(Frame, CommonFlags) {
  EXPECT_EQ(probe({"flags", "--threads", "3"}).out, "json 0 dry-run 0 threads 3 color 0\n");
  EXPECT_EQ(probe({"flags", "--json", "-n", "--threads=1", "--color=always"}).out,
            "json 1 dry-run 1 threads 1 color 1\n");
  EXPECT_EQ(probe({"flags", "--dry-run", "--threads=1", "--color=never"}).out,
            "json 0 dry-run 1 threads 1 color 0\n");
  EXPECT_EQ(probe({"flags"}, {.environment = {{"QWB_THREADS", "2"}}}).out,
            "json 0 dry-run 0 threads 2 color 0\n");
  EXPECT_EQ(probe({"flags", "--threads", "1"}, {.environment = {{"QWB_THREADS", "2"}}}).out,
            "json 0 dry-run 0 threads 1 color 0\n");
  for (const char* wrong : {"many", "0", "4097"})
    EXPECT_EQ(probe({"flags"}, {.environment = {{"QWB_THREADS", wrong}}}).code, 2) << wrong;
  EXPECT_THAT(probe({"flags"}, {.environment = {{"QWB_THREADS", "many"}}}).err,
              HasSubstr("QWB_THREADS: 'many' is no number"));
  EXPECT_THAT(probe({"flags", "--threads", "0"}, {.environment = {{"QWB_THREADS", "2"}}}).err,
              HasSubstr("--threads: 0 is not in"));
  EXPECT_EQ(probe({"flags", "--threads=1"}).err, "qwb-probe: narration\n");
  EXPECT_EQ(probe({"flags", "-q"}).err, "");
  EXPECT_EQ(probe({"flags", "--quiet"}).err, "");
}

TEST(Frame, ColorOfErrors) {
  EXPECT_THAT(probe({"fail", "--color", "always"}).err, HasSubstr("\x1b[1;31merror:"));
  EXPECT_THAT(probe({"fail"}, {.environment = {{"TERM", "xterm"}}, .terminal_stderr = true}).err,
              HasSubstr("\x1b[1;31merror:"));
  EXPECT_THAT(probe({"fail"}, {.environment = {{"TERM", "dumb"}}, .terminal_stderr = true}).err,
              Not(HasSubstr("\x1b[")));
  EXPECT_THAT(probe({"fail"}, {.environment = {{"NO_COLOR", "1"}}, .terminal_stderr = true}).err,
              Not(HasSubstr("\x1b[")));
}

TEST(Frame, FailuresAreOneLineWithTheirCode) {
  const RunResult failed = probe({"fail", "-q"});
  EXPECT_EQ(failed.code, 4);
  EXPECT_EQ(failed.err, "qwb-probe: error: file: wrong bytes (fetch it again)\n");
  EXPECT_EQ(probe({"memory"}).code, 1);
  EXPECT_EQ(probe({"memory"}).err, "qwb-probe: error: out of memory\n");
  EXPECT_EQ(probe({"other"}).code, 1);
  EXPECT_EQ(probe({"other"}).err, "qwb-probe: error: something else\n");
  EXPECT_EQ(probe({"seven"}).code, 7);
}

TEST(Frame, SignalsUnwindAndASecondOneEndsAtOnce) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const RunResult once = probe({"wait"}, {.signals = {signal}, .ready = "ready"});
    EXPECT_EQ(once.code, 130);
    EXPECT_THAT(once.err, EndsWith("qwb-probe: error: interrupted\n"));
  }
  const RunResult twice = probe({"stubborn"}, {.signals = {SIGINT, SIGINT}, .ready = "ready"});
  EXPECT_EQ(twice.code, 130);
  EXPECT_THAT(twice.err, Not(HasSubstr("error")));
}

TEST(Frame, AFullDiskIsAFailureAndAClosedPipeIsNot) {
  const RunResult full = probe({"flags"}, {.stdout_path = "/dev/full"});
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.err, HasSubstr("standard output: cannot write: No space left on device"));
  const RunResult help = probe({"--help"}, {.stdout_path = "/dev/full"});
  EXPECT_EQ(help.code, 1);
  const RunResult closed = probe({"flood"}, {.close_stdout_early = true});
  EXPECT_EQ(closed.code, 0);
  EXPECT_EQ(closed.err, "");
}

TEST(Frame, ABarOnATerminalMakesRoomForData) {
  const RunResult bar = probe({"bar"}, {.terminal_stderr = true});
  EXPECT_EQ(bar.code, 0);
  EXPECT_EQ(bar.out, "data\n");
  EXPECT_THAT(bar.err, HasSubstr("counting"));
  EXPECT_THAT(bar.err, HasSubstr("100% 10/10"));
  EXPECT_THAT(bar.err, HasSubstr("detail"));
  EXPECT_THAT(bar.err, EndsWith("\r\x1b[K"));
  EXPECT_EQ(probe({"bar"}).err, "");  // short tasks leave no lines without a terminal
  EXPECT_EQ(probe({"bar", "-q"}, {.terminal_stderr = true}).err, "");
}

TEST(Frame, ChoosesAModelAndSaysSo) {
  const std::string demo = QWB_SOURCE_DIR "/recipes/demo/";
  const RunResult fallback = probe({"model"});
  EXPECT_EQ(fallback.out, demo + "llama\n");
  EXPECT_THAT(fallback.err, HasSubstr("the demo"));
  const RunResult environment = probe({"model"}, {.environment = {{"QWB_MODEL", demo + "gpt2"}}});
  EXPECT_EQ(environment.out, demo + "gpt2\n");
  EXPECT_THAT(environment.err, HasSubstr("from QWB_MODEL"));
  const RunResult flag =
      probe({"model", "--model", demo + "llama"}, {.environment = {{"QWB_MODEL", demo + "gpt2"}}});
  EXPECT_EQ(flag.out, demo + "llama\n");
  const RunResult missing = probe({"model", "--model", "/nonexistent"});
  EXPECT_EQ(missing.code, 3);
  EXPECT_THAT(missing.err, HasSubstr("qwb-pull"));
  EXPECT_EQ(probe({"model", "--model", demo + "text"}).code, 3);
}

// An installed tool finds the demo beside its own prefix, and says where it looked when there is
// none.
TEST(Frame, FindsTheDemoOfItsPrefix) {
  const std::filesystem::path prefix = std::filesystem::path(::testing::TempDir()) / "qwb_prefix";
  std::filesystem::remove_all(prefix);
  std::filesystem::create_directories(prefix / "bin");
  std::filesystem::copy_file(QWB_PROBE, prefix / "bin/probe");
  const RunOptions options = {.environment = {{"QWB_MODEL", ""}}};
  const RunResult without = run({(prefix / "bin/probe").string(), "model"}, options);
  EXPECT_EQ(without.code, 3);
  EXPECT_THAT(without.err, HasSubstr("share/qwb/demo/llama"));
  std::filesystem::create_directories(prefix / "share/qwb/demo");
  std::filesystem::copy(QWB_SOURCE_DIR "/recipes/demo/llama", prefix / "share/qwb/demo/llama");
  EXPECT_EQ(run({(prefix / "bin/probe").string(), "model"}, options).out,
            (prefix / "share/qwb/demo/llama").string() + "\n");
  std::filesystem::remove_all(prefix);
}

}  // namespace
}  // namespace qwb::testing
