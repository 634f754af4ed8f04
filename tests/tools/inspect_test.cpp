// qwb-inspect as a user runs it.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "formats/safetensors/safetensors.h"
#include "lib/base/file.h"
#include "lib/tensor/tensor.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

class Inspect : public ToolTest {
 protected:
  std::string artifact(const std::string& method) const {
    return output("quantize", {"--model", gpt2_, "--method", method});
  }
};

TEST_F(Inspect, HelpNamesEveryFlag) {
  const std::string help = output("inspect", {"--help"});
  for (const char* flag : {"--modules", "--tensors", "--all", "--module", "--verify", "--no-hash",
                           "--json", "Examples:"})
    EXPECT_THAT(help, HasSubstr(flag));
  EXPECT_EQ(tool("inspect", {"--nonsense"}).code, 2);
}

TEST_F(Inspect, ACheckpoint) {
  const Json json = this->json("inspect", {llama_});
  EXPECT_EQ(json["format"], "huggingface");
  EXPECT_EQ(json["architecture"], "llama");
  const Json& sizes = json["sizes"];
  EXPECT_EQ(sizes["layers"], 8);
  EXPECT_EQ(sizes["hidden"], 256);
  EXPECT_EQ(sizes["heads"], 8);
  EXPECT_EQ(sizes["kv_heads"], 4);
  EXPECT_EQ(sizes["context"], 1024);
  EXPECT_EQ(sizes["vocab"], 4096);
  // Embeddings in and out, 8 blocks of q k v o gate up down and two norms, the last norm.
  const int64_t block = 256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 640 + 2 * 256;
  const int64_t parameters = 2 * 4096 * 256 + 8 * block + 256;
  EXPECT_EQ(json["parameters"], parameters);
  EXPECT_EQ(json["bytes"], 2 * parameters);
  EXPECT_EQ(json["bpw"], 16);
  EXPECT_EQ(json["file_bytes"], fs::file_size(Path(llama_) / "model.safetensors"));
  EXPECT_EQ(json["hash"].get<std::string>().size(), 32u);
  EXPECT_FALSE(json.contains("modules"));
  EXPECT_TRUE(this->json("inspect", {llama_, "--no-hash"})["hash"].is_null());
  const std::string text = output("inspect", {llama_});
  for (const std::string& words :
       Words{"architecture", "kv_heads", "(" + std::to_string(parameters) + ")", "hash"})
    EXPECT_THAT(text, HasSubstr(words));
  EXPECT_FALSE(fs::is_empty(cache() / "memo"));  // the next hash costs nothing
}

TEST_F(Inspect, AnArtifact) {
  const std::string folder = artifact("nf4");
  const Json json = this->json("inspect", {folder, "--all"});
  EXPECT_EQ(json["format"], "qwb");
  EXPECT_EQ(json["method"], "nf4");
  EXPECT_EQ(json["bits"], 4);
  EXPECT_EQ(json["settings"]["block_size"], 64);
  EXPECT_EQ(json["source"]["name"], "gpt2");
  EXPECT_TRUE(json["calibration"].is_null());
  EXPECT_EQ(json["parameters"], this->json("inspect", {gpt2_})["parameters"]);
  EXPECT_LT(json["bpw"].get<double>(), 20);
  ASSERT_EQ(json["modules"].size(), 16u);
  EXPECT_EQ(json["modules"][0]["codec"], "float-blocks");
  EXPECT_GT(json["modules"][0]["weight_error"].get<double>(), 0);
  int64_t bytes = 0;
  for (const Json& tensor : json["tensors"]) bytes += tensor["bytes"].get<int64_t>();
  EXPECT_EQ(json["bytes"], bytes);
  EXPECT_EQ(json["tensors"][0]["file"], "model.safetensors");
  const std::string text = output("inspect", {folder, "--modules"});
  EXPECT_THAT(text, HasSubstr("weight error"));
  EXPECT_THAT(text, HasSubstr("h.3.mlp.c_proj"));
  EXPECT_THAT(text, HasSubstr("block_size 64"));
  EXPECT_THAT(output("inspect", {folder, "--tensors"}), HasSubstr("h.3.mlp.c_proj.codes"));
  EXPECT_THAT(output("inspect", {folder, "--tensors"}), Not(HasSubstr("weight error")));
}

TEST_F(Inspect, ModulesOfACheckpoint) {
  const Json modules = json("inspect", {gpt2_, "--modules"})["modules"];
  ASSERT_EQ(modules.size(), 16u);
  EXPECT_EQ(modules[0]["out"], 576);
  EXPECT_EQ(modules[0]["in"], 192);
  EXPECT_EQ(modules[0]["dtype"], "F32");
  EXPECT_EQ(modules[0]["bpw"], 32);
}

// Against sums made here, straight from the file.
TEST_F(Inspect, StatisticsOfAModule) {
  const std::string name = json("inspect", {gpt2_, "--modules"})["modules"][3]["name"];
  const SafetensorsFile file = SafetensorsFile::open(Path(gpt2_) / "model.safetensors");
  const std::vector<float> values = read_floats(*file.find(name + ".weight"), name);
  double sum = 0, squares = 0, least = values[0], most = values[0];
  for (const float v : values) {
    sum += v;
    squares += double{v} * v;
    least = std::min<double>(least, v);
    most = std::max<double>(most, v);
  }
  const auto n = static_cast<double>(values.size());
  for (const char* threads : {"1", "3"}) {
    const Json record =
        json("inspect", {gpt2_, "--module", name, "--threads", threads})["module"]["values"];
    EXPECT_EQ(record["count"], values.size());
    EXPECT_EQ(record["min"], least);
    EXPECT_EQ(record["max"], most);
    EXPECT_EQ(record["absmax"], std::max(-least, most));
    EXPECT_NEAR(record["mean"].get<double>(), sum / n, 1e-12);
    EXPECT_NEAR(record["std"].get<double>(), std::sqrt(squares / n - sum / n * sum / n), 1e-9);
    EXPECT_EQ(record["non_finite"], 0);
  }
  // Quantized: the same values but for the rounding; NF4 has a zero.
  const Json quantized = json("inspect", {artifact("nf4"), "--module", name})["module"];
  EXPECT_EQ(quantized["codec"], "float-blocks");
  EXPECT_NEAR(quantized["values"]["std"].get<double>(), std::sqrt(squares / n),
              0.02 * std::sqrt(squares / n));
  EXPECT_GT(quantized["values"]["zeros"].get<double>(), 0.01);
  EXPECT_LT(quantized["values"]["zeros"].get<double>(), 0.5);
  // A tensor by its full name; a name that is not there.
  const Json norm = json("inspect", {llama_, "--module", "model.norm.weight"})["module"];
  EXPECT_EQ(norm["values"]["count"], 256);
  const RunResult wrong = tool("inspect", {gpt2_, "--module", "no.c_proj"});
  EXPECT_EQ(wrong.code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("did you mean"));
  EXPECT_THAT(output("inspect", {gpt2_, "--module", name}), HasSubstr("share of zeros"));
}

TEST_F(Inspect, VerifyNamesDamagedFiles) {
  const std::string folder = file("artifact").string();
  output("quantize", {"--model", gpt2_, "--method", "nf4", "--no-cache", "--out", folder});
  EXPECT_THAT(output("inspect", {folder, "--verify"}), HasSubstr("every file matches"));
  EXPECT_EQ(json("inspect", {folder, "--verify"})["verified"], true);
  {
    std::fstream stream(Path(folder) / "model.safetensors",
                        std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(100'000).put('\x7e').put('\x7f');
  }
  const RunResult damaged = tool("inspect", {folder, "--verify"});
  EXPECT_EQ(damaged.code, 4);
  EXPECT_THAT(damaged.err, HasSubstr("model.safetensors"));
  EXPECT_EQ(tool("inspect", {folder}).code, 0);
  fs::remove(Path(folder) / "config.json");
  EXPECT_EQ(tool("inspect", {folder, "--verify"}).code, 4);
  fs::remove(Path(folder) / "qwb.sums");
  EXPECT_EQ(tool("inspect", {folder, "--verify"}).code, 4);
  EXPECT_EQ(tool("inspect", {gpt2_, "--verify"}).code, 2);  // a checkpoint has no sums
}

TEST_F(Inspect, WhatNobodyNamed) {
  const RunResult model =
      tool("inspect", {"--json", "--no-hash"}, {.environment = {{"QWB_MODEL", gpt2_}}});
  EXPECT_EQ(parse_json(model.out, "row")["path"], gpt2_);
  EXPECT_THAT(model.err, HasSubstr("from QWB_MODEL"));
  const std::string folder = artifact("int8");
  const RunResult newest =
      tool("inspect", {"--json", "--no-hash"}, {.environment = {{"QWB_MODEL", gpt2_}}});
  EXPECT_EQ(parse_json(newest.out, "row")["path"], folder);
  EXPECT_THAT(newest.err, HasSubstr("the newest in the cache"));
}

TEST_F(Inspect, OneFailureDoesNotHideTheOthers) {
  const RunResult result = tool("inspect", {"/nonexistent", gpt2_, llama_, "--json", "--no-hash"});
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(lines(result.out).size(), 2u);
  EXPECT_EQ(lines(result.err).size(), 1u);
}

TEST_F(Inspect, AnArchitectureThatCannotBeRun) {
  const Path model = copy_demo("llama");
  Json config = parse_json(read_text(model / "config.json"), "config.json");
  config["model_type"] = "mamba";
  write("model_llama/config.json", config.dump());
  const Json json = this->json("inspect", {model.string(), "--modules"});
  EXPECT_EQ(json["architecture"], "mamba");
  EXPECT_TRUE(json["sizes"].is_null());
  EXPECT_GT(json["modules"].size(), 50u);
  EXPECT_THAT(output("inspect", {model.string()}),
              HasSubstr("mamba (cannot be run by this build)"));
}

}  // namespace
}  // namespace qwb::testing
