// --device and qwb-inspect --devices as a user meets them, on a library without a GPU.
#include <gmock/gmock.h>

#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class DeviceFlag : public ToolTest {
 protected:
  static RunOptions fake(const std::string& mode) {
    return {.environment = {{"QWB_CUDA_LIBRARY", QWB_FAKE_CUDA}, {"FAKE_CUDA", mode}}};
  }
};

TEST_F(DeviceFlag, AGpuIsNeverReplacedSilently) {
  const RunOptions none = {.environment = {{"QWB_CUDA_LIBRARY", "/nonexistent/libqwb-cuda.so"}}};
  const RunResult missing = tool("complete", {"--model", llama_, "--device", "cuda", "A"}, none);
  EXPECT_EQ(missing.code, 5);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("no GPU can be used"), HasSubstr("--device cpu")));
  EXPECT_EQ(missing.out, "");
  EXPECT_EQ(tool("eval", {llama_, "--device", "cuda"}, fake("no-driver")).code, 5);
  EXPECT_EQ(tool("complete", {"--model", llama_, "--device", "cuda:3", "A"}, fake("")).code, 2);
  EXPECT_EQ(tool("complete", {"--model", llama_, "--device", "tpu", "A"}).code, 2);
  EXPECT_EQ(tool("complete", {"--model", llama_, "--device", "cuda", "--int8", "decompose", "A"},
                 fake(""))
                .code,
            5);
}

TEST_F(DeviceFlag, AutoSaysWhatItTookAndWhy) {
  const std::vector<std::string> words = {"--model",      llama_, "--device", "auto",
                                          "--max-tokens", "2",    "Once upon"};
  const RunResult taken = tool("complete", words, fake("code 100"));
  EXPECT_EQ(taken.code, 0);
  EXPECT_THAT(taken.err, HasSubstr("device: the processor: the driver sees no GPU"));
  std::vector<std::string> plain = words;
  plain[3] = "cpu";
  EXPECT_EQ(taken.out, output("complete", plain) + "\n");
}

TEST_F(DeviceFlag, DevicesAreListed) {
  const std::string two = output("inspect", {"--devices"}, fake("two"));
  for (const char* words :
       {"cuda:0", "cuda:1", "Fake GPU", "GPU-00000000", "9.0, 4 multiprocessors",
        "problem     there is no code for Fake GPU", "built for 7.5 8.0 9.0 with CUDA 13.0"})
    EXPECT_THAT(two, HasSubstr(words));
  EXPECT_THAT(output("inspect", {"--devices"}, fake("empty")), HasSubstr("no GPU"));
  const Json listed = json("inspect", {"--devices"}, fake("two"));
  EXPECT_EQ(listed["devices"][1]["device"], "cuda:1");
  EXPECT_TRUE(listed["devices"][1]["problem"].is_null());
  EXPECT_EQ(tool("inspect", {"--devices", llama_}).code, 2);
}

}  // namespace
}  // namespace qwb::testing
