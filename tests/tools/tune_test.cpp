// qwb-tune as a user runs it: what it says, what it writes, and what becomes of a run that is
// stopped in any way.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

class SlowTune : public ToolTest {
 protected:
  SlowTune() {
    std::string rows;
    for (int i = 0; i < 14; ++i) {
      rows += R"({"prompt": "What is number )" + std::to_string(i) +
              R"(?", "completion": "It is )" + std::to_string(i * 7) + R"(, as everyone knows."})" +
              "\n";
    }
    data_ = write("data.jsonl", rows);
  }
  Words request(const std::string& out, const Words& more = {}) const {
    Words words = {llama_,         "--data",  data_,       "--length", "64",    "--steps",
                   "12",           "--batch", "2",         "--rank",   "4",     "--targets",
                   "q_proj",       "up_proj", "--holdout", "2",        "--lr",  "1e-3",
                   "--save-every", "1",       "--dropout", "0.1",      "--out", out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static std::string bits(const std::string& folder) {
    return read_text(Path(folder) / "adapter_model.safetensors");
  }
  // Starts the run and kills it once its log has so many lines.
  void kill_after(const Words& words, const Path& log, size_t count) const {
    Words command = words;
    command.insert(command.begin(), QWB_BIN_DIR "/qwb-tune");
    const Program tune(command, {{"QWB_CACHE", cache().string()}});
    const pid_t child = fork();
    if (child == 0) {
      const int nowhere = open("/dev/null", O_WRONLY);
      dup2(nowhere, STDOUT_FILENO);
      dup2(nowhere, STDERR_FILENO);
      tune.execute();
    }
    for (int i = 0; i < 60'000; ++i) {
      if (fs::exists(log) && lines(read_text(log)).size() >= count) break;
      usleep(500);
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }

  std::string data_;
};

TEST_F(SlowTune, WritesAnAdapterThatRuns) {
  const std::string out = file("adapter").string();
  const RunResult made = tool("tune", request(out));
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.out, out + "\n");
  EXPECT_THAT(made.err, HasSubstr("[["));
  EXPECT_THAT(made.err, HasSubstr("held-out loss"));
  EXPECT_THAT(made.err, HasSubstr("roles as text"));  // the demo has no chat template
  const Json about = parse_json(read_text(Path(out) / "qwb-adapter.json"), "about");
  EXPECT_EQ(about["complete"], true);
  EXPECT_EQ(about["modules"], 16);
  const Json& held = about["result"]["held_out"];
  EXPECT_LT(held["after"]["loss"], held["before"]["loss"]);
  size_t steps = 0;
  for (const std::string& line : lines(read_text(Path(out) / "log.jsonl")))
    steps += parse_json(line, "log").contains("grad_norm") ? 1 : 0;
  EXPECT_EQ(steps, 12u);
  EXPECT_THAT(read_text(Path(out) / "log.csv"), HasSubstr("grad_norm"));
  EXPECT_TRUE(fs::exists(Path(out) / "chat_template.jinja"));
  EXPECT_TRUE(fs::exists(Path(out) / "tokenizer.json"));
  EXPECT_FALSE(fs::exists(out + ".tune"));
  const Words text = {llama_, "Number", "--max-tokens", "4"};
  Words adapted = text;
  adapted.insert(adapted.end(), {"--adapter", out});
  EXPECT_EQ(tool("complete", adapted).code, 0);
  // Another run does not write over it by itself.
  EXPECT_EQ(tool("tune", request(out)).code, 2);
}

TEST_F(SlowTune, EndsInTheSameBitsAfterAnyStop) {
  const std::string whole = output("tune", request(file("whole").string(), {"--threads", "1"}));
  const std::string out = file("killed").string();
  const Path log = out + ".tune/log.jsonl";
  kill_after(request(out), log, 4);
  ASSERT_TRUE(fs::exists(out + ".tune/state"));
  // Not with other settings.
  const RunResult other = tool("tune", request(out, {"--neftune", "5"}));
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("other settings"));
  kill_after(request(out), log, 8);
  const RunResult last = tool("tune", request(out));
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_THAT(last.err, HasSubstr("goes on behind step"));
  EXPECT_EQ(bits(out), bits(whole));

  const std::string stopped = file("stopped").string();
  const RunResult interrupted =
      tool("tune", request(stopped, {"--steps", "400"}), interrupted_at("step 2:"));
  EXPECT_EQ(interrupted.code, 130) << interrupted.err;
  EXPECT_TRUE(fs::exists(Path(stopped) / "adapter_model.safetensors")) << interrupted.err;
  EXPECT_EQ(parse_json(read_text(Path(stopped) / "qwb-adapter.json"), "")["complete"], false);
}

TEST_F(SlowTune, AFullDiskIsTold) {
  RunOptions full;
  full.file_size_limit = 20'000;
  const std::string out = file("full").string();
  const RunResult result = tool("tune", request(out), full);
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_FALSE(fs::exists(out));
  EXPECT_EQ(tool("tune", request(out)).code, 0);
}

TEST_F(SlowTune, TellsBeforeTheWork) {
  const std::string out = file("none").string();
  const Json plan = json("tune", request(out, {"--dry-run"}));
  EXPECT_EQ(plan["steps"], 12);
  EXPECT_GT(plan["seconds"], 0);
  EXPECT_GT(plan["memory_bytes"], 15'000'000);
  EXPECT_FALSE(fs::exists(out));
  EXPECT_FALSE(fs::exists(out + ".tune"));
  const RunResult pattern = tool("tune", request(out, {"--targets", "q_prj"}));
  EXPECT_EQ(pattern.code, 2);
  EXPECT_THAT(pattern.err, HasSubstr("q_prj"));
  const RunResult nothing = tool("tune", request(out, {"--length", "4"}));
  EXPECT_EQ(nothing.code, 2);
  EXPECT_THAT(nothing.err, HasSubstr("no token of the data would be learned"));
}

}  // namespace
}  // namespace qwb::testing
