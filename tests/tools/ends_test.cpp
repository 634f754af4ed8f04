// However a run ends (a signal at any instant, a limit of the system, a full disk, closed
// descriptors), nothing is lost and nothing is left behind. QWB_ROUNDS=200 makes it 200 signals
// instead of a few.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>

#include "formats/qwb/artifact.h"
#include "formats/registry.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

const int kSignals[] = {SIGINT,  SIGTERM, SIGHUP,    SIGQUIT, SIGUSR1, SIGUSR2,
                        SIGALRM, SIGXCPU, SIGVTALRM, SIGPROF, SIGPWR};

class EndsTest : public ToolTest {
 protected:
  // The exit code; 128 + n if the signal itself ended it.
  int interrupted(const std::string& name, Words arguments, int signal, double seconds) const {
    arguments.insert(arguments.begin(), QWB_BIN_DIR "/qwb-" + name);
    const Program program(
        arguments, {{"QWB_CACHE", cache().string()}, {"HF_HUB_OFFLINE", "1"}, {"QWB_MODEL", ""}});
    const pid_t child = fork();
    if (child == 0) {
      setpgid(0, 0);
      if (freopen("/dev/null", "w", stdout) == nullptr ||
          freopen("/dev/null", "w", stderr) == nullptr)
        _exit(126);
      program.execute();
    }
    usleep(static_cast<useconds_t>(seconds * 1e6));
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  // Temporaries, anywhere below the scratch folder.
  Words left_behind() const {
    Words names;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path())) {
      const std::string name = entry.path().filename().string();
      if (is_temporary_name(name) || name.starts_with("qwb-activations"))
        names.push_back(entry.path().string());
    }
    return names;
  }

  // What stands at a target is whole, and the old one or the new one.
  void expect_whole(const fs::path& folder) const {
    EXPECT_EQ(fs::exists(folder), fs::exists(folder / "qwb.sums")) << folder;
    if (fs::exists(folder)) {
      EXPECT_TRUE(damaged_files(folder).empty()) << folder;
    }
  }

  // A shell that sets limits first.
  RunResult limited(const std::string& limits, const std::string& name,
                    const Words& arguments) const {
    std::string line = limits + "; exec " QWB_BIN_DIR "/qwb-" + name;
    for (const std::string& word : arguments) line += " '" + word + "'";
    return run({"/bin/sh", "-c", line},
               {.environment = {
                    {"QWB_CACHE", cache().string()}, {"HF_HUB_OFFLINE", "1"}, {"QWB_MODEL", ""}}});
  }
};

TEST_F(EndsTest, SignalsAtAnyInstant) {
  const char* asked = std::getenv("QWB_ROUNDS");
  const int rounds = asked != nullptr ? std::atoi(asked) : 8;
  const std::string out = file("out").string(), gguf = file("m.gguf").string(),
                    plain = file("plain").string();
  output("quantize", {"--model", gpt2_, "--method", "int8", "--out", out});
  const std::vector<std::pair<std::string, Words>> work = {
      {"quantize", {"--model", gpt2_, "--method", "nf4", "--no-cache", "--out", out, "--force"}},
      {"quantize",
       {"--model", gpt2_, "--samples", "4", "--length", "64", "--out", file("gptq").string(),
        "--force"}},
      {"quantize", {"--model", llama_, "--method", "rtn"}},
      {"convert", {gpt2_, "--to", "gguf", gguf, "--type", "q8_0", "--force"}},
      {"convert", {out, "--to", "huggingface", plain, "--force"}},
      {"eval", {gpt2_, "--windows", "8", "--context", "64", "--fresh"}}};
  std::vector<double> durations;
  for (const auto& [name, words] : work) {
    const auto begin = std::chrono::steady_clock::now();
    output(name, words);
    durations.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  // Loading the libraries, when nothing is touched yet, takes a part of each.
  const auto begin = std::chrono::steady_clock::now();
  output("quantize", {"--version"});
  const double start =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::mt19937 random(20);
  std::map<int, int> codes;
  for (int round = 0; round < rounds; ++round) {
    const auto& [name, words] = work[static_cast<size_t>(round) % work.size()];
    const int signal = kSignals[random() % std::size(kSignals)];
    const double whole = durations[static_cast<size_t>(round) % work.size()];
    const double seconds =
        std::uniform_real_distribution<>(std::min(0.7 * start, whole / 2), whole)(random);
    for (const auto& entry : fs::directory_iterator(cache() / "objects"))
      fs::remove_all(entry.path());
    const int code = interrupted(name, words, signal, seconds);
    ++codes[code];
    // Before main nothing was touched yet, and the signal may do what it does to any program.
    EXPECT_TRUE(code == 130 || code == 0 || (code == 128 + signal && seconds < 2 * start + 0.1))
        << name << " ended with " << code << " by signal " << signal << " after " << seconds
        << " s";
    EXPECT_THAT(left_behind(), ::testing::IsEmpty()) << "signal " << signal;
    expect_whole(file("out"));
    EXPECT_TRUE(fs::exists(file("out") / "qwb.json")) << "lost";
    expect_whole(file("gptq"));
    if (fs::exists(gguf)) {
      EXPECT_NO_THROW(open_model(gguf));
    }
  }
  for (const auto& [code, count] : codes)
    std::cout << "exit " << code << ": " << count << " times\n";
  // The work can still be done, and what was interrupted is not in its way.
  for (const auto& [name, words] : work) output(name, words);
  EXPECT_THAT(left_behind(), ::testing::IsEmpty());
  EXPECT_EQ(tool("cache", {"verify"}).code, 0);
}

// Nobody can clean up after SIGKILL but the next run.
TEST_F(EndsTest, TheNextRunCleansUpAfterAKilledOne) {
  const std::string out = file("killed/out").string();
  const Words words = {"--model", llama_,       "--samples", "16", "--length",
                       "512",     "--no-cache", "--out",     out};
  for (double seconds = 0.5; left_behind().empty() && seconds < 20; seconds *= 1.5) {
    fs::remove_all(out);
    EXPECT_EQ(interrupted("quantize", words, SIGKILL, seconds), 128 + SIGKILL);
  }
  ASSERT_FALSE(left_behind().empty());
  EXPECT_FALSE(fs::exists(out));
  output("quantize", {"--model", gpt2_, "--method", "int8", "--no-cache", "--out", out});
  EXPECT_THAT(left_behind(), ::testing::IsEmpty());
}

TEST_F(EndsTest, AnIgnoredHangupStaysIgnored) {
  const std::string out = file("o").string();
  const RunResult result =
      run({"/bin/sh", "-c",
           "trap '' HUP; (sleep 0.3; kill -HUP $$) & exec " QWB_BIN_DIR "/qwb-quantize --model " +
               gpt2_ + " --samples 8 --length 128 --no-cache --out " + out});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(fs::exists(file("o") / "qwb.json"));
}

TEST_F(EndsTest, LimitsOfTheSystem) {
  const std::string out = file("o").string(), gguf = file("m.gguf").string();
  const std::vector<std::pair<std::string, Words>> work = {
      {"quantize", {"--model", gpt2_, "--method", "int8", "--no-cache", "--out", out}},
      {"quantize", {"--model", gpt2_, "--method", "int8"}},
      {"convert", {gpt2_, "--to", "gguf", gguf}},
      {"eval", {gpt2_, "--windows", "2", "--context", "64", "--no-baseline"}},
      {"eval", {gpt2_, "--windows", "2", "--context", "64", "--no-baseline", "--fresh"}}};
  for (const char* limits : {"ulimit -f 1000", "ulimit -n 5", "ulimit -n 7", "ulimit -n 9",
                             "ulimit -v 120000", "ulimit -v 300000", "ulimit -s 128"}) {
    for (const auto& [name, words] : work) {
      const RunResult result = limited(limits, name, words);
      EXPECT_TRUE(result.code == 1 || result.code == 0 || result.code == 127)
          << limits << ": " << name << ": " << result.code << " " << result.err;
      if (result.code == 1 && result.err.starts_with("qwb-")) {
        EXPECT_THAT(result.err, HasSubstr("error: ")) << limits;
      }
      EXPECT_THAT(left_behind(), ::testing::IsEmpty()) << limits << ": " << name;
      expect_whole(file("o"));
      fs::remove_all(out);
      fs::remove(gguf);
    }
    fs::remove_all(cache());
  }
}

// Every tool, and every way in which its output can go nowhere. Work whose answer cannot be told
// has failed; without a place for notes it has not.
TEST_F(EndsTest, OutputsThatGoNowhere) {
  const std::string made = file("made").string();
  output("quantize", {"--model", gpt2_, "--method", "int8", "--no-cache", "--out", made});
  const std::string results =
      write("results.jsonl", output("eval", {made, "--windows", "2", "--context", "64", "--json"}));
  const std::vector<std::pair<std::string, Words>> work = {
      {"quantize",
       {"--model", gpt2_, "--method", "int8", "--no-cache", "--out", file("o").string()}},
      {"quantize", {"--model", gpt2_, "--method", "int8"}},
      {"convert", {made, "--to", "huggingface", file("h").string()}},
      {"eval", {made, "--windows", "2", "--context", "64", "--fresh", "--no-baseline"}},
      {"inspect", {made}},
      {"complete", {made, "hello", "--max-tokens", "2"}},
      {"report", {results}},
      {"cache", {"ls"}}};
  for (const char* how : {"exec 1>&-", "exec >/dev/full", "exec 2>&-", "exec 2>/dev/full"}) {
    for (const auto& [name, words] : work) {
      const RunResult result = limited(how, name, words);
      const bool told = std::string(how).find("2>") != std::string::npos;
      EXPECT_EQ(result.code, told ? 0 : 1) << how << ": " << name << ": " << result.err;
      if (!told) {
        EXPECT_THAT(result.err, HasSubstr("standard output: cannot write")) << how << name;
      }
      EXPECT_THAT(left_behind(), ::testing::IsEmpty()) << how << ": " << name;
      fs::remove_all(file("o"));
      fs::remove_all(file("h"));
    }
  }
}

TEST_F(EndsTest, ClosedDescriptors) {
  const std::string out = file("o").string();
  const Words quantize = {"--model", gpt2_, "--method", "int8", "--no-cache", "--out", out};
  for (const char* closed : {"exec 0<&-", "exec 1>&-", "exec 2>&-", "exec 0<&- 1>&- 2>&-"}) {
    const RunResult result = limited(closed, "quantize", quantize);
    EXPECT_EQ(result.code, std::string(closed).find("1>") == std::string::npos ? 0 : 1)
        << closed << result.err;
    expect_whole(file("o"));
    fs::remove_all(out);
    const RunResult prompt = limited(closed, "complete", {gpt2_, "-", "--max-tokens", "2"});
    if (std::string(closed).find("0<") != std::string::npos) {
      EXPECT_EQ(prompt.code, 1) << prompt.out;
    }
  }
  EXPECT_THAT(limited("exec 0<&-", "complete", {gpt2_, "-"}).err,
              HasSubstr("standard input: cannot read"));
  const RunResult folder = tool("complete", {gpt2_, "-"}, {.stdin_path = "/tmp"});
  EXPECT_EQ(folder.code, 1);
  EXPECT_THAT(folder.err, HasSubstr("directory"));
}

// A file system of 3 MB, for this shell alone. Needs root, as containers have it.
TEST_F(EndsTest, AFullDisk) {
  const fs::path disk = file("disk");
  fs::create_directories(disk);
  const std::string mount = "mount -t tmpfs -o size=3m none " + disk.string();
  if (run({"/usr/bin/unshare", "-m", "/bin/sh", "-c", mount}).code != 0)
    GTEST_SKIP() << "no file system of our own";
  const std::string tools = QWB_BIN_DIR "/qwb-", in = " '" + gpt2_ + "' ", at = disk.string();
  const Words lines = {"quantize --method int8 --no-cache --out " + at + "/o" + in,
                       "convert --to gguf" + in + at + "/m.gguf",
                       "convert --to huggingface" + in + at + "/h"};
  for (const std::string& line : lines) {
    const RunResult result =
        run({"/usr/bin/unshare", "-m", "/bin/sh", "-c",
             mount + " && { " + tools + line + "; echo code $?; ls -A " + at + "; }"});
    EXPECT_EQ(result.out, "code 1\n") << line << result.err;
    EXPECT_THAT(result.err, ::testing::AnyOf(HasSubstr("free"), HasSubstr("No space"))) << line;
  }
}

// What a container or a service lacks: HOME, /proc, /sys, a place that can be written.
TEST_F(EndsTest, SurroundingsThatLackThings) {
  const std::string bare = "cd /; env -u HOME -u QWB_CACHE -u XDG_CACHE_HOME -u HF_HOME ",
                    tools = QWB_BIN_DIR "/qwb-";
  const Words lines = {
      "quantize --method int8 --no-cache -q --out " + file("o").string() + " --model " + gpt2_,
      "quantize --method int8 -n -q --model " + gpt2_,
      "inspect -q " + gpt2_,
      "eval -q --windows 2 --context 64 " + file("o").string(),
      "complete -q --max-tokens 2 " + gpt2_ + " hello",
      "convert -q --to gguf " + gpt2_ + " " + file("m.gguf").string()};
  for (const std::string& line : lines) {
    const RunResult result = run({"/bin/sh", "-c", bare + tools + line});
    EXPECT_EQ(result.code, 0) << line << ": " << result.err;
    EXPECT_EQ(result.err, "") << line;
  }
  const std::string masked = "mount -t tmpfs none /proc && mount -t tmpfs none /sys";
  if (run({"/usr/bin/unshare", "-m", "/bin/sh", "-c", masked}).code != 0)
    GTEST_SKIP() << "no mounts of our own";
  fs::remove_all(file("o"));
  fs::remove(file("m.gguf"));
  for (const std::string& line : lines) {
    const RunResult result =
        run({"/usr/bin/unshare", "-m", "/bin/sh", "-c", masked + "; " + bare + tools + line});
    EXPECT_EQ(result.code, 0) << line << ": " << result.err;
  }
}

}  // namespace
}  // namespace qwb::testing
