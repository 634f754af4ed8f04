// A calibrated run that is interrupted goes on where it stopped and ends with the same bits.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>

#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/rng.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

class Resume : public ToolTest {
 protected:
  std::string method_ = "gptq";
  Words request(const Words& more = {}) const {
    Words words = {"--model", gpt2_,  "--method",  method_, "--group-size", "64",
                   "--calib", "demo", "--samples", "8",     "--length",     "128"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static std::string bits(const std::string& artifact) {
    return hash_hex(as_bytes(read_text(Path(artifact) / "model.safetensors", int64_t{1} << 30)));
  }
  // Folders of runs that can be continued.
  std::vector<Path> journals() const {
    std::vector<Path> found;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(cache() / "resume", none))
      found.push_back(entry.path());
    return found;
  }
  // Starts the run and kills it after the first block is saved. The rest takes longer than the
  // kill.
  void interrupt_after_a_block() const {
    Words words = request();
    words.insert(words.begin(), std::string(QWB_BINARY_DIR) + "/bin/qwb-quantize");
    const Program quantize(words, {{"QWB_CACHE", cache().string()}});
    const pid_t child = fork();
    if (child == 0) {
      const int nowhere = open("/dev/null", O_WRONLY);
      dup2(nowhere, STDOUT_FILENO);
      dup2(nowhere, STDERR_FILENO);
      quantize.execute();
    }
    for (int i = 0; i < 60'000; ++i) {
      const auto found = journals();
      if (!found.empty() && fs::exists(found.front() / "streams-00001")) break;
      usleep(1000);
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
};

// awq keeps norms and biases too.
class ResumeMethod : public Resume, public ::testing::WithParamInterface<const char*> {
 protected:
  ResumeMethod() { method_ = GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Methods, ResumeMethod, ::testing::Values("gptq", "awq"),
                         [](const auto& method) { return std::string(method.param); });

TEST_P(ResumeMethod, GoesOnAfterAKillWithTheSameBits) {
  RunOptions elsewhere;
  elsewhere.environment["QWB_CACHE"] = file("other").string();
  const std::string undisturbed = bits(output("quantize", request(), elsewhere));
  interrupt_after_a_block();
  ASSERT_EQ(journals().size(), 1u);
  const RunResult second = tool("quantize", request());
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.err, HasSubstr("going on after block"));
  EXPECT_EQ(bits(lines(second.out).front()), undisturbed);
  EXPECT_TRUE(journals().empty());
  // The report of the work covers all modules, those of the first run too.
  const Json manifest =
      parse_json(read_text(Path(lines(second.out).front()) / "qwb.json", 1 << 24), "qwb.json");
  for (const Json& module : manifest.at("modules")) EXPECT_TRUE(json_has(module, "output_error"));
}

TEST_F(Resume, AnotherRequestDoesNotTakeIt) {
  interrupt_after_a_block();
  const RunResult other = tool("quantize", request({"--bits", "3"}));
  ASSERT_EQ(other.code, 0) << other.err;
  EXPECT_THAT(other.err, Not(HasSubstr("going on")));
  EXPECT_EQ(journals().size(), 1u);
}

TEST_F(Resume, NoResumeBeginsAnew) {
  interrupt_after_a_block();
  const RunResult second = tool("quantize", request({"--no-resume"}));
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.err, Not(HasSubstr("going on")));
}

TEST_F(Resume, DamagedProgressIsNotUsed) {
  RunOptions elsewhere;
  elsewhere.environment["QWB_CACHE"] = file("other").string();
  const std::string undisturbed = bits(output("quantize", request(), elsewhere));
  for (const auto& [kind, truncate] :
       {std::pair("streams-", false), std::pair("streams-", true), std::pair("modules-", false)}) {
    interrupt_after_a_block();
    ASSERT_EQ(journals().size(), 1u);
    for (const auto& entry : fs::directory_iterator(journals().front())) {
      if (!entry.path().filename().string().starts_with(kind)) continue;
      if (truncate) {
        fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
      } else {
        std::fstream damaged(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
        damaged.seekp(static_cast<std::streamoff>(fs::file_size(entry.path()) / 3));
        damaged.put('\x5a');
        damaged.put('\x5b');
      }
    }
    const RunResult second = tool("quantize", request());
    ASSERT_EQ(second.code, 0) << second.err;
    EXPECT_THAT(second.err, Not(HasSubstr("going on")));
    EXPECT_EQ(bits(lines(second.out).front()), undisturbed);
    fs::remove_all(cache());
  }
}

// Kills at random instants, each run going on where the one before stopped, until as many have hit
// as QWB_KILL_ROUNDS says. The instants are spread over the time that a run takes here: all would
// come before the first saved block on a slow machine, or after the end on a fast one.
TEST_P(ResumeMethod, KillAtAnyInstant) {
  RunOptions elsewhere;
  elsewhere.environment["QWB_CACHE"] = file("other").string();
  const auto begin = std::chrono::steady_clock::now();
  const std::string undisturbed = bits(output("quantize", request(), elsewhere));
  const double whole =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const char* asked = std::getenv("QWB_KILL_ROUNDS");
  const int rounds = asked != nullptr ? std::atoi(asked) : 6;
  Rng rng(7);
  int killed = 0, resumed = 0, finished = 0;
  for (int runs = 0; killed < rounds || resumed == 0; ++runs) {
    ASSERT_LT(runs, 20 * rounds) << killed << " killed, " << resumed << " resumed";
    RunOptions some_time;
    some_time.timeout = 0.02 + whole * rng.uniform();
    const RunResult result = tool("quantize", request(), some_time);
    resumed += result.err.find("going on after block") != std::string::npos ? 1 : 0;
    if (result.code == 128 + SIGKILL) {
      ++killed;
      continue;
    }
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(bits(lines(result.out).front()), undisturbed) << killed << " kills before";
    ++finished;
    fs::remove_all(cache());
  }
  EXPECT_EQ(bits(output("quantize", request())), undisturbed);
  EXPECT_TRUE(journals().empty());
  RecordProperty("killed", killed);
  RecordProperty("resumed", resumed);
  RecordProperty("finished", finished);
}

TEST_P(ResumeMethod, ActivationsOnDiskGiveTheSameBits) {
  const Json plan = json("quantize", request({"--dry-run"}));
  const int64_t peak = json_int(plan, "peak_memory", "plan");
  EXPECT_EQ(json_int(plan, "scratch_bytes", "plan"), 0);
  EXPECT_GT(json_number(plan, "seconds", "plan"), 0);
  const Json tight =
      json("quantize", request({"--dry-run", "--max-memory", std::to_string(peak - 1)}));
  EXPECT_GT(json_int(tight, "scratch_bytes", "plan"), 0);
  EXPECT_LT(json_int(tight, "peak_memory", "plan"), peak);
  const std::string first = bits(output("quantize", request()));
  fs::remove_all(cache());
  const int64_t least = json_int(tight, "peak_memory", "plan");
  const RunResult second = tool("quantize", request({"--max-memory", std::to_string(least)}));
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_THAT(second.err, HasSubstr("activations go to files"));
  EXPECT_EQ(bits(lines(second.out).front()), first);
}

TEST_F(Resume, WhatCannotFitIsSaidBeforeTheWork) {
  const RunResult result = tool("quantize", request({"--max-memory", "1M"}));
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("MB of memory"));
  EXPECT_THAT(result.err, HasSubstr("--max-memory"));
}

}  // namespace
}  // namespace qwb::testing
