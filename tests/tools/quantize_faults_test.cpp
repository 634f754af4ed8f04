// What interrupted, killed, crowded out and starved runs of qwb-quantize leave behind: nothing.
#include <gmock/gmock.h>

#include <algorithm>
#include <csignal>
#include <random>

#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class QuantizeFaults : public ToolTest {
 protected:
  Words work(const Words& more = {}) const {
    Words words = {"--model", gpt2_};
    const auto add = [&](const std::string& flag, const std::string& value) {
      if (std::find(more.begin(), more.end(), flag) == more.end())
        words.insert(words.end(), {flag, value});
    };
    add("--method", "gptq");
    add("--samples", "4");
    add("--length", "128");
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string command(const Words& words) const {
    std::string text = "'" QWB_BIN_DIR "/qwb-quantize'";
    for (const std::string& word : words) text += " '" + word + "'";
    return text;
  }
  // The next run works, and afterwards there is one whole object and nothing else.
  void expect_recovery(const Words& words) const {
    const std::string folder = output("quantize", words);
    EXPECT_TRUE(fs::exists(Path(folder) / "qwb.json"));
    EXPECT_EQ(cache_content(), Words{Path(folder).parent_path().string()});
    EXPECT_EQ(tool("cache", {"verify"}).code, 0);
  }
};

TEST_F(QuantizeFaults, CtrlCLeavesNothing) {
  // Long enough to be caught at work.
  const Words words = work({"--samples", "64", "--length", "512"});
  const RunResult result =
      tool("quantize", words, {.signals = {SIGINT}, .ready = "calibrating with", .timeout = 60});
  EXPECT_EQ(result.code, 130) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
  EXPECT_EQ(cache_content(), Words());
}

TEST_F(QuantizeFaults, CtrlCLeavesNothingAtOut) {
  const std::string out = file("out").string();
  const Words words = work({"--samples", "64", "--length", "512", "--no-cache", "--out", out});
  const RunResult result =
      tool("quantize", words, {.signals = {SIGTERM}, .ready = "calibrating with", .timeout = 60});
  EXPECT_EQ(result.code, 130) << result.err;
  EXPECT_TRUE(fs::is_empty(scratch_.path()) || !fs::exists(out));
  for (const auto& entry : fs::directory_iterator(scratch_.path())) {
    EXPECT_FALSE(is_temporary_name(entry.path().filename().string())) << entry.path();
  }
}

TEST_F(QuantizeFaults, TwoAtOnceGiveOneArtifact) {
  const std::string a = file("a").string(), b = file("b").string();
  const std::string script = command(work()) + " >" + a + " 2>" + a + ".err & first=$!; " +
                             command(work()) + " >" + b + " 2>" + b +
                             ".err; second=$?; wait $first && exit $second";
  RunOptions options;
  options.environment = {{"QWB_CACHE", cache().string()}};
  const RunResult result = run({"/bin/sh", "-c", script}, options);
  EXPECT_EQ(result.code, 0) << read_text(a + ".err") << read_text(b + ".err");
  EXPECT_EQ(read_text(a), read_text(b));
  EXPECT_EQ(lines(read_text(a)).size(), 1u);
  EXPECT_EQ(cache_content().size(), 1u);
  // One of them did the work, the other took its result.
  const std::string told = read_text(a + ".err") + read_text(b + ".err");
  EXPECT_THAT(told, HasSubstr("done: "));
  EXPECT_THAT(told, HasSubstr("answered from the cache"));
}

TEST_F(QuantizeFaults, KilledAtAnyInstantTheCacheStaysClean) {
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> moment(0.02, 1.5);
  int killed = 0;
  for (int i = 0; i < 10; ++i) {
    // Every run makes another artifact, so that each has work to do.
    const Words words = work({"--seed", std::to_string(i)});
    killed += tool("quantize", words, {.timeout = moment(random)}).code == 128 + SIGKILL ? 1 : 0;
    // Whatever is served is whole.
    EXPECT_EQ(tool("cache", {"verify", "-q"}).code, 0);
    for (const std::string& name : cache_content()) {
      EXPECT_FALSE(is_temporary_name(Path(name).filename().string())) << name;
    }
  }
  EXPECT_GT(killed, 0);
  const std::string folder = output("quantize", work({"--seed", "99"}));
  EXPECT_TRUE(fs::exists(Path(folder) / "qwb.json"));
  EXPECT_EQ(tool("cache", {"verify"}).code, 0);
}

TEST_F(QuantizeFaults, AFullDiskFailsAndLeavesNothing) {
  // The artifact takes about 6 MB: neither reserving nor writing can succeed.
  const Words words = work({"--method", "nf4"});
  for (const int64_t limit : {int64_t{100'000}, int64_t{4'000'000}}) {
    const RunResult result = tool("quantize", words, {.file_size_limit = limit});
    EXPECT_EQ(result.code, 1) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr("error: "));
    EXPECT_EQ(cache_content(), Words());
  }
  expect_recovery(words);
}

TEST_F(QuantizeFaults, ACacheThatCannotBeWritten) {
  const RunResult result =
      tool("quantize", work({"--method", "rtn"}), {.environment = {{"QWB_CACHE", "/proc/qwb"}}});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("QWB_CACHE"));
}

}  // namespace
}  // namespace qwb::testing
