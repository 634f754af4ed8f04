// qwb-quantize as a user runs it: its contract. Faults: quantize_faults_test.cpp.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <regex>

#include "formats/safetensors/safetensors.h"
#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class Quantize : public ToolTest {
 protected:
  Words with(Words more) const {
    Words words = {"--model", gpt2_};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // A short gptq run: 4 windows of 128 tokens, unless `more` says otherwise.
  Words small(Words more = {}) const {
    for (const auto& [flag, value] : {std::pair<const char*, const char*>{"--method", "gptq"},
                                      {"--samples", "4"},
                                      {"--length", "128"}}) {
      if (std::find(more.begin(), more.end(), flag) == more.end())
        more.insert(more.end(), {flag, value});
    }
    return with(more);
  }
  // The calibration that a gptq request would use, without the work.
  Json calibration(const Words& more) const {
    Words words = small(more);
    words.insert(words.end(), {"--dry-run"});
    return json("quantize", words)["calibration"];
  }
  std::string english() const { return read_text(demo("text/eval.txt")).substr(0, 8'000); }
};

TEST_F(Quantize, HelpNamesEveryFlag) {
  const std::string help = std::regex_replace(output("quantize", {"--help"}), std::regex("\\s+"),
                                              " ");  // lines are broken anywhere
  for (const char* flag :
       {"--model", "--method", "--bits", "--group-size", "--symmetric", "--asymmetric",
        "--act-order", "--calib", "--samples", "--length", "--seed", "--documents",
        "--chat-template", "--out", "--force", "--no-cache", "--dry-run", "--json", "--quiet",
        "--threads", "Examples:", "gptq:", "nf4:", "--include", "--exclude", "--plan", "--lm-head",
        "--embeddings", "--save-calib", "--report", "later rules win", "--clip", "--scale-channels",
        "--no-scale-channels",
        // A default that differs by method.
        "[true; rtn, gptq, awq: false]"}) {
    EXPECT_THAT(help, HasSubstr(flag));
  }
}

TEST_F(Quantize, ThePathAloneAndTheSecondTimeFromTheCache) {
  for (const char* method : {"none", "rtn", "int8", "nf4", "fp4"}) {
    const RunResult first = tool("quantize", with({"--method", method}));
    ASSERT_EQ(first.code, 0) << first.err;
    ASSERT_EQ(lines(first.out).size(), 1u);
    const Path folder = lines(first.out)[0];
    EXPECT_TRUE(fs::exists(folder / "model.safetensors")) << folder;
    EXPECT_EQ(parse_json(read_text(folder / "qwb.json"), "qwb.json")["method"], method);
    EXPECT_THAT(first.err, Not(HasSubstr("cache")));
    const RunResult second = tool("quantize", with({"--method", method}));
    EXPECT_EQ(second.code, 0);
    EXPECT_EQ(second.out, first.out);
    EXPECT_THAT(second.err, HasSubstr("answered from the cache"));
    EXPECT_EQ(tool("quantize", with({"--method", method, "-q"})).err, "");
  }
}

TEST_F(Quantize, JsonTellsWhetherItWasCached) {
  const Json first = json("quantize", with({"--method", "rtn"}));
  EXPECT_EQ(first["schema"], 1);
  EXPECT_EQ(first["cached"], false);
  EXPECT_EQ(first["key"].get<std::string>().size(), 32u);
  EXPECT_EQ(first["modules"].size(), 16u);
  const Json second = json("quantize", with({"--method", "rtn"}));
  EXPECT_EQ(second["cached"], true);
  EXPECT_EQ(second["artifact"], first["artifact"]);
  // Another setting is another object.
  EXPECT_EQ(json("quantize", with({"--method", "rtn", "--bits", "3"}))["cached"], false);
}

TEST_F(Quantize, ParametersReachTheArtifact) {
  const auto settings = [&](const Words& more) { return json("quantize", with(more))["settings"]; };
  const Json odd =
      settings({"--method", "rtn", "--bits", "3", "--group-size", "32", "--asymmetric"});
  EXPECT_EQ(odd["bits"], 3);
  EXPECT_EQ(odd["group_size"], 32);
  EXPECT_EQ(odd["symmetric"], false);
  const Json channel = settings({"--method", "rtn", "--group-size", "-1", "--symmetric"});
  EXPECT_EQ(channel["group_size"], -1);
  EXPECT_EQ(channel["symmetric"], true);
  const Json tensor =
      json("quantize", with({"--method", "rtn", "--group-size", "-1"}))["modules"][0];
  EXPECT_EQ(tensor["parameters"]["group_size"], tensor["in"]);
  EXPECT_EQ(json("quantize", small({"--act-order"}))["settings"]["act_order"], true);
  EXPECT_EQ(json("quantize", with({"--method", "nf4", "--bits", "4"}))["method"],
            "nf4");  // what nf4 does anyway
}

TEST_F(Quantize, DryRunTellsAndMakesNothing) {
  const RunResult table = tool("quantize", with({"--method", "nf4", "--dry-run"}));
  EXPECT_EQ(table.code, 0);
  EXPECT_THAT(table.out, HasSubstr("h.3.mlp.c_proj"));
  EXPECT_THAT(table.out, HasSubstr("peak memory"));
  const Json plan = json("quantize", with({"--method", "nf4", "-n"}));
  for (const char* key : {"modules", "weights", "artifact_bytes", "peak_memory", "disk_free"}) {
    EXPECT_GT(plan[key].get<int64_t>(), 0) << key;
  }
  EXPECT_EQ(plan["cached"], false);
  EXPECT_EQ(cache_content(), Words());
  output("quantize", with({"--method", "nf4"}));
  EXPECT_EQ(json("quantize", with({"--method", "nf4", "-n"}))["cached"], true);
}

TEST_F(Quantize, OutForceAndNoCache) {
  const std::string out = file("artifact").string();
  EXPECT_EQ(output("quantize", with({"--method", "rtn", "--out", out})), out);
  EXPECT_TRUE(fs::exists(Path(out) / "qwb.sums"));
  EXPECT_EQ(cache_content().size(), 1u);
  const RunResult again = tool("quantize", with({"--method", "nf4", "--out", out}));
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("--force"));
  output("quantize", with({"--method", "nf4", "--out", out, "--force", "--no-cache"}));
  EXPECT_EQ(parse_json(read_text(Path(out) / "qwb.json"), "qwb.json")["method"], "nf4");
  EXPECT_EQ(cache_content().size(), 1u);  // the cache was left alone
  EXPECT_EQ(tool("quantize", with({"--method", "nf4", "--no-cache"})).code, 2);  // needs --out
  EXPECT_EQ(tool("quantize", {"--model", out, "--method", "rtn"}).code, 2);  // an artifact already
}

TEST_F(Quantize, WrongRequestsAreUsageErrors) {
  const std::vector<Words> wrong = {{"--method", "magic"},
                                    {"--nonsense"},
                                    {"--method", "rtn", "--group-size", "0"},
                                    {"--method", "rtn", "--group-size", "4096"},
                                    {"--method", "rtn", "--group-size", "-2"},
                                    {"--method", "rtn", "--bits", "9"},
                                    {"--method", "rtn", "--bits", "1"},
                                    {"--method", "rtn", "--bits", "four"},
                                    {"--method", "nf4", "--bits", "3"},
                                    {"--method", "nf4", "--group-size", "64"},
                                    {"--method", "rtn", "--act-order"},
                                    {"--method", "gptq", "--samples", "0"},
                                    {"--method", "gptq", "--calib", "nonsense"},
                                    {"--method", "gptq", "--samples", "x"},
                                    {"--method", "gptq", "--length", "1"},
                                    {"--method", "gptq", "--seed", "x"},
                                    {"stray"}};
  for (const Words& words : wrong) {
    const RunResult result = tool("quantize", with(words));
    EXPECT_EQ(result.code, 2) << ::testing::PrintToString(words) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr("qwb-quantize: error: "));
  }
  EXPECT_EQ(cache_content(), Words());
}

TEST_F(Quantize, WhatIsMissingIsNamedWithTheWayToGetIt) {
  const RunResult model = tool("quantize", {"--model", "/nonexistent", "--method", "rtn"});
  EXPECT_EQ(model.code, 3);
  EXPECT_THAT(model.err, HasSubstr("/nonexistent"));
  const std::map<std::string, std::string> bare = {{"HF_HUB_CACHE", file("hub").string()},
                                                   {"HUGGINGFACE_HUB_CACHE", ""},
                                                   {"HF_HOME", ""},
                                                   {"QWB_DATA", ""}};
  const RunResult lima = tool("quantize", small({"--calib", "lima"}), {.environment = bare});
  EXPECT_EQ(lima.code, 3);
  EXPECT_THAT(lima.err, HasSubstr("huggingface.co/datasets/GAIR/lima"));
  EXPECT_EQ(tool("quantize", small({"--calib", "/nonexistent.txt"})).code, 3);
  // $QWB_DATA is one of the places.
  write("lima.jsonl", Json({{"conversations", {english()}}}).dump() + "\n");
  auto data = bare;
  data["QWB_DATA"] = scratch_.path().string();
  EXPECT_EQ(json("quantize", small({"--calib", "lima", "-n"}),
                 {.environment = data})["calibration"]["name"],
            "lima");
}

TEST_F(Quantize, TheModelOfTheEnvironment) {
  const RunResult result =
      tool("quantize", {"--method", "rtn", "-n"}, {.environment = {{"QWB_MODEL", gpt2_}}});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("h.0.attn.c_attn"));
  EXPECT_THAT(result.err, HasSubstr("from QWB_MODEL"));
  EXPECT_THAT(tool("quantize", {"--method", "rtn", "-n"}).err, HasSubstr("the demo"));
}

TEST_F(Quantize, NanIsFoundAndItsModuleNamed) {
  const Path model = copy_demo("gpt2");
  int64_t at = 0;
  {
    const SafetensorsFile weights = SafetensorsFile::open(model / "model.safetensors");
    std::string name = "transformer.h.2.mlp.c_fc.weight";
    if (!weights.find(name)) name = "h.2.mlp.c_fc.weight";
    at = weights.find(name)->bytes.data() - weights.mapped().bytes().data() + 4000;
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::fstream stream(model / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(at).write(reinterpret_cast<const char*>(&nan), sizeof nan);
  stream.close();
  for (const char* method : {"rtn", "int8", "nf4", "gptq", "awq"}) {
    const RunResult result = tool("quantize", {"--model", model.string(), "--method", method,
                                               "--samples", "2", "--length", "64"});
    EXPECT_EQ(result.code, 1) << method;
    EXPECT_THAT(result.err, HasSubstr("h.2.mlp.c_fc")) << method;
    EXPECT_EQ(cache_content(), Words());
  }
}

TEST_F(Quantize, CalibrationFilesOfEveryForm) {
  const std::string text = english();
  const std::string half = text.substr(0, 4000), rest = text.substr(4000);
  const auto hash = [&](const std::string& name, const std::string& content) {
    const Json set = calibration({"--calib", write(name, content)});
    EXPECT_EQ(set["name"], name);
    EXPECT_EQ(set["tokens"], 4 * 128);
    return set["hash"].get<std::string>();
  };
  // One text in all forms gives the same windows.
  const std::string whole = hash("a.txt", half + "\n\n" + rest);
  const auto row = [](const Json& json) { return json.dump() + "\n"; };
  EXPECT_EQ(hash("text.jsonl", row({{"text", half}}) + row({{"text", rest}})), whole);
  EXPECT_EQ(hash("strings.jsonl", row({{"conversations", {half, rest}}})), whole);
  EXPECT_EQ(
      hash("sharegpt.jsonl",
           row({{"conversations",
                 {{{"from", "human"}, {"value", half}}, {{"from", "gpt"}, {"value", rest}}}}})),
      whole);
  EXPECT_EQ(hash("messages.jsonl", row({{"messages",
                                         {{{"role", "user"}, {"content", half}},
                                          {{"role", "assistant"}, {"content", rest}}}}})),
            whole);
  EXPECT_NE(hash("b.txt", rest), whole);
  const Json documents =
      calibration({"--calib", file("text.jsonl").string(), "--documents", "--samples", "2"});
  EXPECT_EQ(documents["windows"], 2);
}

TEST_F(Quantize, ConversationsThroughTheChatTemplate) {
  const Path model = copy_demo("gpt2");
  const std::string text = english();
  const Json row = {{"messages", {{{"role", "user"}, {"content", text}}}}};
  const std::string set = write("chat.jsonl", row.dump() + "\n");
  Words words = {"--model",  model.string(), "--method", "gptq",    "--samples", "4",
                 "--length", "128",          "-n",       "--calib", set};
  const Json plain = json("quantize", words)["calibration"];
  EXPECT_EQ(plain["chat_template"], false);
  words.emplace_back("--chat-template");
  EXPECT_EQ(tool("quantize", words).code, 3);  // has none
  Json config = parse_json(read_text(model / "tokenizer_config.json"), "tokenizer_config.json");
  config["chat_template"] = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}";
  write("model_gpt2/tokenizer_config.json", config.dump());
  const Json rendered = json("quantize", words)["calibration"];
  EXPECT_EQ(rendered["chat_template"], true);
  EXPECT_NE(rendered["hash"], plain["hash"]);
  EXPECT_EQ(rendered["hash"],
            calibration({"--calib", write("same.txt", "[user] " + text)})["hash"]);
}

TEST_F(Quantize, SeedDrawsOtherWindows) {
  const Json first = calibration({});
  EXPECT_TRUE(first["seed"].is_null());
  const Json drawn = calibration({"--seed", "1"});
  EXPECT_EQ(drawn["seed"], 1);
  EXPECT_NE(drawn["hash"], first["hash"]);
  EXPECT_EQ(calibration({"--seed", "1"})["hash"], drawn["hash"]);
  EXPECT_NE(calibration({"--seed", "2"})["hash"], drawn["hash"]);
}

TEST_F(Quantize, CalibrationSetsThatAreTooSmall) {
  for (const auto& [name, content] : std::map<std::string, std::string>{
           {"empty.txt", ""}, {"empty.jsonl", ""}, {"short.txt", "Too short."}}) {
    const RunResult result = tool("quantize", small({"--calib", write(name, content)}));
    EXPECT_EQ(result.code, 1) << name;
    EXPECT_THAT(result.err, HasSubstr("not one window of 128 tokens"));
  }
  const RunResult broken =
      tool("quantize", small({"--calib", write("broken.jsonl", "{\"text\": \"a\"}\n{\"text\"\n")}));
  EXPECT_EQ(broken.code, 1);
  EXPECT_THAT(broken.err, HasSubstr("line 2"));
  // Fewer windows than asked for: said, and done.
  const RunResult few = tool(
      "quantize",
      small({"--calib", write("few.txt", english().substr(0, 2000)), "--samples", "50", "-n"}));
  EXPECT_EQ(few.code, 0);
  EXPECT_THAT(few.err, HasSubstr("(50 were asked for)"));
}

TEST_F(Quantize, SameBytesForAnyNumberOfThreadsAndFromRunToRun) {
  std::vector<std::string> weights;
  for (const char* threads : {"1", "2", "7", "7"}) {
    const std::string out = file("run" + std::to_string(weights.size())).string();
    output("quantize", small({"--no-cache", "--out", out, "--threads", threads}));
    weights.push_back(read_text(Path(out) / "model.safetensors"));
  }
  for (const std::string& other : weights) EXPECT_TRUE(other == weights[0]);
  EXPECT_GT(weights[0].size(), 1'000'000u);
}

// Codes, scales, zero points and what was not quantized; beyond that at most one percent.
TEST_F(Quantize, AnArtifactTakesWhatItsCodecsTake) {
  const Path folder = output(
      "quantize", with({"--method", "rtn", "--bits", "3", "--group-size", "64", "--asymmetric"}));
  const Json manifest = parse_json(read_text(folder / "qwb.json"), "qwb.json");
  const SafetensorsFile source = SafetensorsFile::open(Path(gpt2_) / "model.safetensors");
  const SafetensorsFile artifact = SafetensorsFile::open(folder / "model.safetensors");
  const std::string any = manifest["modules"][0]["name"];
  const int64_t scale_size = dtype_size(artifact.find(any + ".scales")->dtype);
  int64_t expected = 0;
  for (const SafetensorsEntry& entry : source.header().tensors) expected += entry.end - entry.begin;
  for (const Json& module : manifest["modules"]) {
    const int64_t out = module["out"], in = module["in"];
    const int64_t groups = (in + 63) / 64;
    expected -= out * in * 4;                  // f32 in the source
    expected += out * ((in * 3 + 7) / 8);      // codes
    expected += out * groups * scale_size;     // scales
    expected += out * ((groups * 3 + 7) / 8);  // zero points
  }
  int64_t stored = 0;
  for (const SafetensorsEntry& entry : artifact.header().tensors) stored += entry.end - entry.begin;
  EXPECT_EQ(stored, expected);
  EXPECT_LE(static_cast<double>(fs::file_size(folder / "model.safetensors")),
            1.01 * static_cast<double>(expected));
  EXPECT_EQ(json("quantize", with({"--method", "rtn", "--bits", "3", "--group-size", "64",
                                   "--asymmetric", "-n"}))["artifact_bytes"],
            expected);
}

}  // namespace
}  // namespace qwb::testing
