// From nothing to an artifact by names alone.
#include "tests/hub/pull_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class SlowFromNothing : public PullTest {
 protected:
  SlowFromNothing() {
    model_ = &hub_->add("demo/llama");
    for (const auto& entry : fs::directory_iterator(Path(QWB_SOURCE_DIR) / "recipes/demo/llama"))
      model_->put(entry.path().filename().string(), read_text(entry.path()));
    lima_ = &hub_->add("GAIR/lima", "datasets");
    std::string rows;
    for (const std::string& line :
         lines(read_text(Path(QWB_SOURCE_DIR) / "recipes/demo/text/eval.txt"))) {
      if (line.size() < 300 || rows.size() > 60'000) continue;
      rows +=
          Json({{"conversations", {"Tell me more.", line}}, {"source", "made up"}}).dump() + "\n";
    }
    lima_->put("train.jsonl", rows);
    lima_->put("test.jsonl", "");
  }
  RunResult quantize(const Words& more, const Environment& variables = {}) const {
    Words words = {"--method", "gptq", "--bits", "4", "--calib", "lima", "--model", "demo/llama"};
    words.insert(words.end(), more.begin(), more.end());
    return tool("quantize", words, variables);
  }
  FakeRepo *model_ = nullptr, *lima_ = nullptr;
};

TEST_F(SlowFromNothing, ToAnArtifact) {
  const RunResult first = quantize({"--samples", "4", "--length", "64"});
  ASSERT_EQ(first.code, 0) << first.err;
  const Path artifact = lines(first.out).back();
  const Json manifest = parse_json(read_text(artifact / "qwb.json"), "qwb.json");
  EXPECT_EQ(manifest["calibration"]["name"], "lima");
  EXPECT_EQ(manifest["source"]["revision"], model_->commit);
  EXPECT_EQ(manifest["calibration"]["windows"], 4);
  EXPECT_EQ(hub_->count("GAIR/lima/resolve/" + lima_->commit + "/train.jsonl"), 1);
  EXPECT_EQ(hub_->count("test.jsonl"), 0);
  // Again, without the Hub: all is here.
  hub_->forget_requests();
  const RunResult second =
      quantize({"--samples", "4", "--length", "64"}, {{"HF_HUB_OFFLINE", "1"}});
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(second.out, first.out);
  EXPECT_EQ(hub_->seen().size(), 0u);
}

TEST_F(SlowFromNothing, LimaIsGated) {
  lima_->allowed_token = "hf_lima";
  const RunResult refused = quantize({"-n", "--samples", "2", "--length", "64"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("the calibration set 'lima'"));
  EXPECT_THAT(refused.err,
              HasSubstr("accept its licence at " + hub_->endpoint() + "/datasets/GAIR/lima"));
  EXPECT_THAT(refused.err, HasSubstr("QWB_DATA"));
  EXPECT_EQ(quantize({"-n", "--samples", "2", "--length", "64"}, {{"HF_TOKEN", "hf_lima"}}).code,
            0);
}

TEST_F(SlowFromNothing, DatasetNames) {
  FakeRepo& data = hub_->add("org/texts", "datasets");
  data.put("data/test.jsonl", "{\"text\": \"no\"}\n");
  data.put("data/train-00000.jsonl",
           read_text(Path(QWB_SOURCE_DIR) / "recipes/demo/text/calib.jsonl"));
  data.put("all.txt", read_text(Path(QWB_SOURCE_DIR) / "recipes/demo/text/eval.txt"));
  const auto calibrate = [&](const std::string& name) {
    return tool("quantize", {"--method", "gptq", "--model", "demo/llama", "-n", "--samples", "2",
                             "--length", "64", "--calib", name});
  };
  const RunResult chosen = calibrate("org/texts");
  EXPECT_EQ(chosen.code, 0) << chosen.err;
  EXPECT_THAT(chosen.err, HasSubstr("calibrating with data/train-00000.jsonl of org/texts"));
  EXPECT_EQ(hub_->count("resolve/" + data.commit + "/"), 1);
  EXPECT_EQ(calibrate("org/texts:all.txt").code, 0);
  const RunResult absent = calibrate("org/texts:absent.txt");
  EXPECT_EQ(absent.code, 3);
  EXPECT_EQ(calibrate("org/nothing").code, 3);
  EXPECT_EQ(calibrate("org/texts:picture.png").code, 2);
  EXPECT_EQ(calibrate("nothing").code, 2);
}

}  // namespace
}  // namespace qwb::testing
