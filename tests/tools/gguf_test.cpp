// Every tool that opens a model takes a .gguf file, or a folder that holds one, as it takes a
// checkpoint.
#include <gmock/gmock.h>

#include "formats/registry.h"
#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class GgufTool : public ToolTest {
 protected:
  std::string make(const std::string& name, const std::string& type) const {
    fs::create_directories(file(name).parent_path());
    output("convert", {gpt2_, file(name).string(), "--to", "gguf", "--type", type});
    return file(name).string();
  }
};

TEST_F(GgufTool, InspectNamesTheTypes) {
  const std::string path = make("m.gguf", "q4_0");
  const Json record = json("inspect", {path, "--modules", "--tensors"});
  EXPECT_EQ(record["format"], "gguf");
  EXPECT_EQ(record["architecture"], "gpt2");
  EXPECT_EQ(record["modules"][0]["codec"], "ggml-blocks");
  EXPECT_EQ(record["modules"][0]["dtype"], "Q4_0");
  EXPECT_EQ(record["modules"][0]["bits"], 4);
  // 2,555,904 weights of matrices at 4.5 bits; 108,672 of positions, norms and biases stay F32.
  EXPECT_NEAR(record["bpw"].get<double>(), (4.5 * 2555904 + 32 * 108672) / (2555904 + 108672),
              1e-12);
  EXPECT_EQ(record["tensors"].size(), 52u);
  const Json module = json("inspect", {path, "--module", "transformer.h.0.attn.c_attn"});
  EXPECT_EQ(module["module"]["values"]["count"], 192 * 576);
}

// The same text from F32 weights, whatever the packaging; and a folder stands for its file.
TEST_F(GgufTool, CompleteAndEvalRunOnIt) {
  const std::string plain = make("folder/m.gguf", "f32");
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
    const Json found = json("eval", {model, "--ppl", "--windows", "1", "--context", "128",
                                     "--no-baseline"})["perplexity"];
    return found.is_object() ? found["value"].get<double>() : found.get<double>();
  };
  const double original = perplexity(gpt2_);
  EXPECT_NEAR(perplexity(plain), original, 1e-4 * original);
  EXPECT_NEAR(perplexity(make("q8.gguf", "q8_0")), original, 1e-2 * original);
}

TEST_F(GgufTool, QuantizeTakesPlainWeightsOnly) {
  const std::string plain = make("plain.gguf", "f32"), blocks = make("q.gguf", "q4_0");
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

// Codes of 4 bits in groups of 32 are Q4_0, and nothing but their place changes from one format to
// the next.
TEST_F(GgufTool, ExactThereAndBack) {
  const std::string source = output(
      "quantize", {"--model", llama_, "--method", "rtn", "--bits", "4", "--group-size", "32"});
  const std::string artifact = source.substr(0, source.find('\n'));
  const Json there = json("convert", {artifact, file("m.gguf"), "--to", "gguf"});
  EXPECT_EQ(there["exact"], true);
  EXPECT_EQ(there["counts"]["exact"], 58);
  EXPECT_EQ(there["modules"][2]["type"], "Q4_0");
  EXPECT_EQ(there["modules"][2]["error"], 0.0);
  EXPECT_EQ(json("convert", {file("m.gguf"), file("gptq"), "--to", "gptq"})["exact"], true);
  // Norms are F32 in GGUF; back in the model's type they are what they were.
  EXPECT_EQ(json("convert", {file("gptq"), file("qwb"), "--to", "qwb", "--dtype", "bf16"})["exact"],
            true);
  const OpenModel before = open_model(artifact), after = open_model(file("qwb"));
  EXPECT_EQ(after.source->quantized_modules(), before.source->quantized_modules());
  for (const std::string& name : before.source->names()) {
    const auto found = after.source->find(name);
    ASSERT_TRUE(found) << name;
    EXPECT_TRUE(as_text(found->bytes) == as_text(before.source->find(name)->bytes)) << name;
  }
  for (const std::string& module : before.source->quantized_modules()) {
    const auto found = after.source->quantized(module)->parts();
    const auto wanted = before.source->quantized(module)->parts();
    for (const auto& [part, view] : wanted)
      EXPECT_TRUE(as_text(found.at(part).bytes) == as_text(view.bytes)) << module << " " << part;
  }
  const std::string again = file("again.gguf").string();
  output("quantize", {"--model", llama_, "--method", "rtn", "--bits", "4", "--group-size", "32",
                      "--format", "gguf", "--out", again});
  EXPECT_TRUE(read_text(again) == read_text(file("m.gguf")));
}

TEST_F(GgufTool, RefusesBeforeWritingAndRequantizesWhenAsked) {
  const std::string source = output("quantize", {"--model", llama_, "--method", "nf4"});
  const std::string artifact = source.substr(0, source.find('\n'));
  const RunResult refused = tool("convert", {artifact, "--to", "gguf", file("m.gguf")});
  EXPECT_EQ(refused.code, 5);
  EXPECT_THAT(refused.err, HasSubstr("GGUF has no blocks like those of float-blocks"));
  EXPECT_FALSE(fs::exists(file("m.gguf")));
  EXPECT_EQ(tool("quantize", {"--model", llama_, "--method", "nf4", "--format", "gguf", "--out",
                              file("m.gguf")})
                .code,
            5);
  const Json plan = json(
      "convert", {artifact, "--to", "gguf", file("m.gguf"), "--requantize", "q8_0", "--dry-run"});
  EXPECT_FALSE(fs::exists(file("m.gguf")));
  const Json done =
      json("convert", {artifact, "--to", "gguf", file("m.gguf"), "--requantize", "q8_0"});
  EXPECT_EQ(plan["counts"], done["counts"]);
  EXPECT_EQ(done["counts"]["requantized"], 56);
  EXPECT_EQ(done["counts"]["exact"], 2);
  for (const Json& module : done["modules"]) {
    const bool exact = module["how"] == "exact";
    EXPECT_EQ(module["type"], exact ? "BF16" : "Q8_0");
    EXPECT_EQ(module["error"] == 0.0, exact) << module.dump();
    EXPECT_LT(module["error"], 1e-4) << module.dump();
  }
}

TEST_F(GgufTool, FlagsAndPlaces) {
  const std::string help = output("convert", {"--help"});
  for (const char* word :
       {"gguf", "--type", "--token-embedding-type", "--output-tensor-type", "Q6_K"})
    EXPECT_THAT(help, HasSubstr(word));
  const Json mixed =
      json("convert", {llama_, file("m.gguf"), "--to", "gguf", "--type", "q4_0",
                       "--token-embedding-type", "q8_0", "--output-tensor-type", "f16"});
  std::map<std::string, std::string> types;
  for (const Json& module : mixed["modules"]) types[module["tensor"]] = module["type"];
  EXPECT_EQ(types.at("token_embd.weight"), "Q8_0");
  EXPECT_EQ(types.at("output.weight"), "F16");
  EXPECT_EQ(types.at("blk.3.attn_q.weight"), "Q4_0");
  EXPECT_EQ(json("convert",
                 {llama_, "--to", "gguf", "--dtype", "f32", "--dry-run"})["modules"][0]["type"],
            "F32");
  EXPECT_THAT(tool("convert", {llama_, file("m.gguf"), "--to", "gguf"}).err,
              HasSubstr("the file exists"));
  EXPECT_EQ(tool("convert", {llama_, file("m.gguf"), "--to", "gguf", "--force"}).code, 0);
  for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{
           {"--to", "gguf", "--type", "q9"},
           {"--to", "gguf", "--round-scales"},
           {"--to", "gguf", "--max-shard-size", "1GB"},
           {"--to", "huggingface", "--type", "q4_0"},
           {"--to", "huggingface", "--output-tensor-type", "q4_0"},
           {"--to", "huggingface", "--token-embedding-type", "q4_0"}}) {
    std::vector<std::string> words = {llama_, file("other").string()};
    words.insert(words.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(tool("convert", words).code, 2) << wrong[2];
  }
  fs::create_directories(file("folder"));
  EXPECT_EQ(tool("convert", {llama_, file("folder"), "--to", "gguf"}).code, 2);
}

}  // namespace
}  // namespace qwb::testing
