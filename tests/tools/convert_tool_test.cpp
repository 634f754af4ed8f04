// qwb-convert and qwb-quantize --format as a user runs them.
#include <gmock/gmock.h>

#include <fstream>

#include "formats/qwb/artifact.h"
#include "formats/registry.h"
#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class ConvertTool : public ToolTest {
 protected:
  std::string artifact(const std::string& model, Words flags) const {
    flags.insert(flags.begin(), {"--model", model});
    return output("quantize", flags);
  }
};

TEST_F(ConvertTool, HelpNamesEveryFlagAndFormat) {
  const std::string help = output("convert", {"--help"});
  for (const char* word :
       {"--to", "--dtype", "--requantize", "--round-scales", "--max-shard-size", "--force",
        "--dry-run", "--json", "gptq", "awq", "bitsandbytes", "compressed-tensors", "huggingface"})
    EXPECT_THAT(help, HasSubstr(word));
  EXPECT_EQ(tool("convert", {llama_}).code, 2);
  EXPECT_EQ(tool("convert", {llama_, "--to", "nonsense"}).code, 2);
  EXPECT_EQ(tool("convert", {llama_, "--to", "gptq"}).code, 2);  // nothing is quantized
  EXPECT_EQ(tool("convert", {file("absent"), "--to", "gptq"}).code, 3);
}

TEST_F(ConvertTool, ExactTripThroughEveryFormatThatHasTheGrid) {
  const std::string source =
      artifact(llama_, {"--method", "rtn", "--bits", "4", "--group-size", "64"});
  std::string last = source;
  for (const std::string format : {"gptq", "awq", "compressed-tensors", "gptq-v2", "qwb"}) {
    const std::string out = file(format).string();
    const Json record = json("convert", {last, "--to", format, out});
    EXPECT_EQ(record["exact"], true);
    EXPECT_EQ(record["counts"]["exact"], 56);
    last = out;
  }
  EXPECT_EQ(read_text(Path(last) / "model.safetensors"),
            read_text(Path(source) / "model.safetensors"));
  EXPECT_TRUE(damaged_files(last).empty());
  const RunResult told = tool("convert", {file("gptq"), "--to", "awq", file("again")});
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_EQ(told.out, file("again").string() + "\n");
  EXPECT_THAT(told.err, HasSubstr("exact: codes and scales of all 56 modules"));
  EXPECT_EQ(json("inspect", {file("gptq")})["format"], "gptq");
  EXPECT_TRUE(fs::exists(file("awq") / "tokenizer.json"));
}

TEST_F(ConvertTool, RefusesBeforeWritingAndRequantizesWhenAsked) {
  const std::string source = artifact(llama_, {"--method", "nf4"});
  const RunResult refused = tool("convert", {source, "--to", "gptq", file("out")});
  EXPECT_EQ(refused.code, 5);
  EXPECT_THAT(refused.err, HasSubstr("--requantize"));
  EXPECT_FALSE(fs::exists(file("out")));
  const Json record = json("convert", {source, "--to", "gptq", file("out"), "--requantize", "rtn",
                                       "--group-size", "32"});
  EXPECT_EQ(record["exact"], false);
  EXPECT_EQ(record["counts"]["requantized"], 56);
  EXPECT_GT(record["modules"][0]["error"].get<double>(), 1e-4);
  EXPECT_LT(record["modules"][0]["error"].get<double>(), 0.05);
  EXPECT_EQ(tool("convert", {source, "--to", "gptq", file("out2"), "--requantize", "gptq"}).code,
            2);
}

TEST_F(ConvertTool, Conv1DAndTiedEmbeddings) {
  const std::string source = artifact(gpt2_, {"--method", "int8"});
  const std::string there = file("bnb").string(), back = file("back").string(),
                    plain = file("plain").string();
  EXPECT_EQ(json("convert", {source, "--to", "bitsandbytes", there})["exact"], true);
  EXPECT_EQ(json("convert", {there, "--to", "qwb", back})["exact"], true);
  EXPECT_EQ(read_text(Path(source) / "model.safetensors"),
            read_text(Path(back) / "model.safetensors"));
  // Dequantized, the weights lie [in, out] again, and every shard can be found.
  EXPECT_EQ(tool("convert",
                 {there, "--to", "huggingface", plain, "--dtype", "f16", "--max-shard-size", "1MB"})
                .code,
            0);
  EXPECT_TRUE(fs::exists(Path(plain) / "model.safetensors.index.json"));
  const OpenModel model = open_model(plain), original = open_model(gpt2_);
  for (const std::string& name : original.source->names())
    EXPECT_EQ(model.source->find(name)->shape, original.source->find(name)->shape) << name;
  const RunResult blocks =
      tool("convert", {artifact(gpt2_, {"--method", "nf4"}), "--to", "bitsandbytes", file("x")});
  EXPECT_EQ(blocks.code, 5);
  EXPECT_THAT(blocks.err, HasSubstr("[in, out]"));
}

TEST_F(ConvertTool, DryRunForceAndQuantizeFormat) {
  const Words quantize = {"--model", llama_,         "--method", "rtn",         "--bits",
                          "4",       "--group-size", "32",       "--asymmetric"};
  Words flags = quantize;
  flags.insert(flags.end(), {"--format", "compressed-tensors", "--out", file("ct").string()});
  EXPECT_EQ(output("quantize", flags), file("ct").string());
  EXPECT_EQ(json("inspect", {file("ct")})["format"], "compressed-tensors");
  const Json dry = json("convert", {file("ct"), "--to", "awq", file("awq"), "--dry-run"});
  EXPECT_EQ(dry["exact"], true);
  EXPECT_TRUE(dry["folder"].is_null());
  EXPECT_FALSE(fs::exists(file("awq")));
  EXPECT_EQ(tool("convert", {file("ct"), "--to", "gptq", file("ct")}).code, 2);
  EXPECT_EQ(output("convert", {file("ct"), "--to", "awq", file("awq")}), file("awq").string());
  EXPECT_EQ(tool("convert", {file("ct"), "--to", "awq", file("awq")}).code, 2);
  EXPECT_EQ(tool("convert", {file("ct"), "--to", "awq", file("awq"), "--force"}).code, 0);
  Words refused = quantize;
  refused[5] = "3";
  refused.insert(refused.end(), {"--format", "awq", "--out", file("no").string()});
  EXPECT_EQ(tool("quantize", refused).code, 5);
  refused = quantize;
  refused.insert(refused.end(), {"--format", "awq"});
  EXPECT_EQ(tool("quantize", refused).code, 2);
}

}  // namespace
}  // namespace qwb::testing
