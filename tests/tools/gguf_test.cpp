// Every tool that opens a model takes a .gguf file, or a folder that holds one, as it takes a checkpoint.
#include <gmock/gmock.h>

#include "formats/gguf_export.h"
#include "lib/quantize/ggml_quants.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class GgufTool : public ToolTest {
 protected:
  std::string make(const std::string& name, GgmlType type) const {
    GgufOptions options;
    options.type = type;
    options.encode = quantize_ggml;
    fs::create_directories(file(name).parent_path());
    write_gguf(open_model(gpt2_), file(name), options, silent_progress());
    return file(name).string();
  }
};

TEST_F(GgufTool, InspectNamesTheTypes) {
  const std::string path = make("m.gguf", GgmlType::q4_0);
  const Json record = json("inspect", {path, "--modules", "--tensors"});
  EXPECT_EQ(record["format"], "gguf");
  EXPECT_EQ(record["architecture"], "gpt2");
  EXPECT_EQ(record["modules"][0]["codec"], "ggml-blocks");
  EXPECT_EQ(record["modules"][0]["dtype"], "Q4_0");
  EXPECT_EQ(record["modules"][0]["bits"], 4);
  EXPECT_NEAR(record["bpw"].get<double>(), 5.9, 0.1);  // positions and norms stay F32
  EXPECT_EQ(record["tensors"].size(), 52u);
  const Json module = json("inspect", {path, "--module", "transformer.h.0.attn.c_attn"});
  EXPECT_EQ(module["module"]["values"]["count"], 192 * 576);
}

// The same text from F32 weights, whatever the packaging; and a folder stands for its file.
TEST_F(GgufTool, CompleteAndEvalRunOnIt) {
  const std::string plain = make("folder/m.gguf", GgmlType::f32);
  const std::vector<std::string> words = {
      "The history of the city begins", "--temperature", "0", "--max-tokens", "12", "--model"};
  const auto with = [&](const std::string& model) {
    std::vector<std::string> all = words;
    all.push_back(model);
    return all;
  };
  const std::string expected = output("complete", with(gpt2_));
  EXPECT_EQ(output("complete", with(plain)), expected);
  EXPECT_EQ(output("complete", with(file("folder").string())), expected);
  const auto perplexity = [&](const std::string& model) {
    const Json found =
        json("eval", {model, "--ppl", "--windows", "1", "--context", "128", "--no-baseline"})["perplexity"];
    return found.is_object() ? found["value"].get<double>() : found.get<double>();
  };
  const double original = perplexity(gpt2_);
  EXPECT_NEAR(perplexity(plain), original, 1e-4 * original);
  EXPECT_NEAR(perplexity(make("q8.gguf", GgmlType::q8_0)), original, 1e-2 * original);
}

TEST_F(GgufTool, QuantizeTakesPlainWeightsOnly) {
  const std::string plain = make("plain.gguf", GgmlType::f32), blocks = make("q.gguf", GgmlType::q4_0);
  const std::string out = file("artifact").string();
  output("quantize", {"--model", plain, "--method", "rtn", "--out", out, "--no-cache"});
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json", "qwb.json"})
    EXPECT_TRUE(fs::exists(Path(out) / name)) << name;
  EXPECT_EQ(json("inspect", {out})["format"], "qwb");
  const RunResult refused =
      tool("quantize", {"--model", blocks, "--method", "rtn", "--no-cache", "--out", out + "2"});
  EXPECT_NE(refused.code, 0);
  EXPECT_THAT(refused.err, HasSubstr("quantized already"));
}

}  // namespace
}  // namespace qwb::testing
