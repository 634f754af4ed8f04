// Plans as a user gives them: --include, --exclude, --plan, --lm-head, --embeddings; mixed
// artifacts in every tool; the report of the work.
#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Words = std::vector<std::string>;

class Plans : public ToolTest {
 protected:
  Json quantize(const std::string& model, Words more) const {
    more.insert(more.begin(), {"--model", model});
    return json("quantize", more);
  }
  // Of a request, without the work.
  Json plan(const std::string& model, Words more) const {
    more.insert(more.end(), {"--dry-run", "--samples", "2", "--length", "64"});
    return quantize(model, more);
  }
  static Json module(const Json& record, const std::string& name) {
    for (const Json& one : record["modules"]) {
      if (one["name"] == name) return one;
    }
    return nullptr;
  }
  double perplexity(const std::string& artifact) const {
    return json("eval", {artifact, "--ppl", "--windows", "4", "--context", "256",
                         "--no-baseline"})["perplexity"]["value"];
  }
};

TEST_F(Plans, IncludeExcludeAndRulesReachTheArtifact) {
  const Json made = quantize(gpt2_, {"--method", "rtn", "--include", "h.[01].*", "--include",
                                     "*.c_proj", "--exclude", "*.attn.c_proj"});
  // Of 4 blocks: c_attn and c_fc of two, mlp.c_proj of all.
  EXPECT_EQ(made["modules"].size(), 8u);
  EXPECT_EQ(made["kept"].size(), 8u);
  EXPECT_EQ(made["method"], "rtn");
  const Path folder = made["artifact"].get<std::string>();
  EXPECT_EQ(parse_json(read_text(folder / "qwb.json"), "qwb.json")["kept"], made["kept"]);
  EXPECT_LT(std::abs(perplexity(folder) / perplexity(gpt2_) - 1), 4);
}

TEST_F(Plans, WrongOnesAreUsageErrorsThatHelp) {
  const auto refused = [&](Words words) {
    words.insert(words.begin(), {"--model", gpt2_, "--method", "rtn", "-n"});
    const RunResult result = tool("quantize", words);
    EXPECT_EQ(result.code, 2) << ::testing::PrintToString(words) << result.err;
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  EXPECT_THAT(
      refused({"--include", "*.down_proj"}),
      HasSubstr(
          "--include: the pattern '*.down_proj' matches no module (there are transformer.h.0."));
  EXPECT_THAT(refused({"--exclude", "h.9.*"}), HasSubstr("'h.9.*'"));
  EXPECT_THAT(refused({"--include", "h.[0"}), HasSubstr("[ without ]"));
  EXPECT_THAT(refused({"--exclude", "*"}), HasSubstr("nothing is left"));
  const auto plan = [&](const std::string& text) { return write("wrong.json", text); };
  EXPECT_THAT(
      refused({"--plan",
               plan(R"({"rules": [{"match": "c_fc", "bits": 3}, {"match": "up", "bits": 3}]})")}),
      HasSubstr("wrong.json: rule 2: the pattern 'up'"));
  EXPECT_THAT(refused({"--plan", plan(R"({"default": {"method": "gptq"}})")}),
              HasSubstr("--method says rtn"));
  EXPECT_THAT(refused({"--plan", plan(R"({"rules": [{"match": "wte", "method": "gptq"}]})")}),
              HasSubstr("transformer.wte"));
  EXPECT_EQ(tool("quantize", {"--plan", "/nonexistent.json", "-n"}).code, 3);
  EXPECT_EQ(tool("quantize", {"--plan", plan("{"), "-n"}).code, 1);
  EXPECT_THAT(cache_content(), IsEmpty());
}

TEST_F(Plans, TheFileIsTheDefaultThatFlagsRefine) {
  const std::string file =
      write("plan.json", R"({"default": {"method": "rtn", "bits": 3, "group_size": 64},
                             "lm_head": true, "rules": [{"match": "c_fc", "method": "nf4"}]})");
  const Json as_written = plan(gpt2_, {"--plan", file});
  EXPECT_EQ(as_written["method"], "mixed");
  EXPECT_EQ(as_written["modules"], 17);
  EXPECT_EQ(as_written["plan"][0]["settings"]["bits"], 3);
  EXPECT_TRUE(as_written["calibration"].is_null());
  const Json refined = plan(gpt2_, {"--plan", file, "--bits", "5", "--method", "rtn"});
  EXPECT_EQ(refined["plan"][0]["settings"]["bits"], 5);
  EXPECT_EQ(refined["plan"][0]["settings"]["group_size"], 64);
}

// What the cache knows is what the modules get.
TEST_F(Plans, TheSameResultByAnotherWayIsTheSameObject) {
  const Json flags = quantize(gpt2_, {"--method", "rtn", "--bits", "3", "--group-size", "64"});
  const std::string all = write("all.json", R"({"default": {"method": "nf4"}, "rules":
      [{"match": "*", "method": "rtn", "group_size": 64}, {"match": "*.c_*", "bits": 3}]})");
  const Json rules = quantize(gpt2_, {"--plan", all});
  EXPECT_EQ(rules["key"], flags["key"]);
  EXPECT_EQ(rules["cached"], true);
  // And without any plan the key has no word of it.
  const Words why = {"why",    "--model", gpt2_,          "--method", "rtn",
                     "--bits", "3",       "--group-size", "64"};
  EXPECT_FALSE(json("cache", why)["fields"].contains("modules"));
  std::set<std::string> keys = {flags["key"]};
  for (const Words& more :
       std::vector<Words>{{"--exclude", "h.0.*"}, {"--include", "h.0.*"}, {"--lm-head"}}) {
    Words words = {"--method", "rtn", "--bits", "3", "--group-size", "64"};
    words.insert(words.end(), more.begin(), more.end());
    const Json made = quantize(gpt2_, words);
    EXPECT_EQ(made["cached"], false) << ::testing::PrintToString(more);
    EXPECT_TRUE(keys.insert(made["key"]).second);
  }
}

TEST_F(Plans, WhyNamesTheModulesThatDiffer) {
  quantize(gpt2_, {"--method", "rtn"});
  const std::string file = write("p.json", R"({"rules": [{"match": "h.*.mlp.c_proj", "bits": 8},
                                                         {"match": "h.1.attn.c_attn", "method": "skip"}]})");
  const Words words = {"why", "--model", gpt2_, "--method", "rtn", "--plan", file};
  const Json why = json("cache", words);
  EXPECT_EQ(why["cached"], false);
  Words fields;
  for (const Json& one : why["differences"]) fields.push_back(one["field"]);
  EXPECT_THAT(fields, ::testing::Contains("modules.transformer.h.1.attn.c_attn"));
  EXPECT_THAT(fields, ::testing::Contains("modules.transformer.h.3.mlp.c_proj.settings.bits"));
  const std::string text = output("cache", words);
  EXPECT_THAT(text, HasSubstr("modules.transformer.h.0.mlp.c_proj.settings.bits and 3 more"));
  EXPECT_THAT(text, HasSubstr("what the plan gives"));
}

TEST_F(Plans, AMixedArtifactInEveryTool) {
  const std::string file =
      write("mixed.json", R"({"default": {"method": "gptq", "bits": 4, "group_size": 64},
      "rules": [{"match": "*.self_attn.*", "method": "nf4"}, {"match": "lm_head", "method": "int8"}]})");
  const Words request = {"--plan", file, "--samples", "16", "--length", "256"};
  const Json made = quantize(llama_, request);
  EXPECT_EQ(made["method"], "mixed");
  EXPECT_EQ(made["modules"].size(), 57u);
  // Per module what it got, errors before and after, damping, time.
  for (const Json& one : made["modules"]) {
    EXPECT_GT(one["output_error"].get<double>(), 0) << one["name"];
    EXPECT_GT(one["bpw"].get<double>(), 4);
    EXPECT_GE(one["seconds"].get<double>(), 0);
    EXPECT_EQ(one["damping"].is_null(), one["method"] != "gptq");
  }
  EXPECT_EQ(module(made, "model.layers.3.self_attn.k_proj")["method"], "nf4");
  EXPECT_EQ(module(made, "model.layers.3.self_attn.k_proj")["settings"]["block_size"], 64);
  EXPECT_EQ(module(made, "model.layers.3.mlp.up_proj")["settings"]["group_size"], 64);
  EXPECT_EQ(module(made, "lm_head")["method"], "int8");
  const std::string folder = made["artifact"];
  const Json manifest = parse_json(read_text(Path(folder) / "qwb.json"), "qwb.json");
  EXPECT_EQ(manifest["method"], "nf4");  // what most modules have: 32 of 57
  int own = 0;
  for (const Json& one : manifest["modules"]) own += one.contains("method") ? 1 : 0;
  EXPECT_EQ(own, 25);
  // 4 bits but for the output embedding's 8.
  const double lm_head = 4096.0 * 256,
               blocks = 8.0 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 640);
  const double bits = (8 * lm_head + 4 * blocks) / (lm_head + blocks);
  EXPECT_NEAR(made["bits"].get<double>(), bits, 1e-9);
  const Json evaluated = json("eval", {folder, "--windows", "4", "--no-baseline"});
  EXPECT_EQ(evaluated["method"], "mixed");
  EXPECT_NEAR(evaluated["bits"].get<double>(), bits, 1e-9);
  EXPECT_EQ(evaluated["bpw"], made["totals"]["bpw"]);
  const Json original = json("eval", {llama_, "--windows", "4"});
  const double ratio = evaluated["perplexity"]["value"].get<double>() /
                       original["perplexity"]["value"].get<double>();
  EXPECT_GT(ratio, 1);
  EXPECT_LT(ratio, 1.15);  // calibrated on 512 tokens only
  EXPECT_LT(evaluated["bytes"].get<int64_t>(),
            6'300'000);  // 15.2 MB before; 7.1 with the 16-bit lm_head
  EXPECT_THAT(output("cache", {"ls"}), HasSubstr("mixed"));
  const Json seen = json("inspect", {folder, "--modules", "--no-hash"});
  EXPECT_EQ(seen["method"], "mixed");
  EXPECT_EQ(seen["modules"].size(), 57u);
  EXPECT_EQ(module(seen, "lm_head")["method"], "int8");
  const std::string text = output("inspect", {folder, "--modules", "--no-hash"});
  EXPECT_THAT(text, HasSubstr("mixed: modules by method nf4 32, gptq 24, int8 1"));
  EXPECT_THAT(text, HasSubstr("rounding error"));
  EXPECT_THAT(text, HasSubstr("largest relative output error"));
  EXPECT_NE(output("complete", {"--model", folder, "--max-tokens", "4", "The history of"}), "");
}

// One stored matrix for the lookup and the logits; the model stays what it was, but for the
// rounding.
TEST_F(Plans, TiedEmbeddings) {
  const double before = perplexity(gpt2_);
  const Json plain = quantize(gpt2_, {"--method", "none"});
  for (const char* method : {"int8", "rtn"}) {
    const std::string file = write("tied.json", R"({"rules": [{"match": "lm_head", "method": ")" +
                                                    std::string(method) + R"(", "bits": 8}]})");
    const Json made = quantize(gpt2_, {"--method", "none", "--plan", file});
    const std::string folder = made["artifact"];
    EXPECT_EQ(made["modules"].size(), 17u);
    EXPECT_FALSE(module(made, "transformer.wte").is_null());
    EXPECT_LT(
        made["totals"]["bytes"].get<int64_t>(),
        plain["totals"]["bytes"].get<int64_t>() - 2 * 4096 * 192);  // f32 before, one byte each now
    EXPECT_NEAR(perplexity(folder) / before, 1, 0.02) << method;
    Words names;
    const Json seen = json("inspect", {folder, "--tensors", "--no-hash"});
    for (const Json& tensor : seen["tensors"]) names.push_back(tensor["name"]);
    EXPECT_THAT(names, ::testing::Contains("transformer.wte.codes"));
    EXPECT_THAT(names, Not(::testing::Contains("transformer.wte.weight")));
    EXPECT_THAT(names, Not(::testing::Contains("lm_head.codes")));
  }
  // The default is a calibrated method: said, and done by rounding.
  const RunResult gptq = tool("quantize", {"--model", gpt2_, "--lm-head", "-n", "--group-size",
                                           "64", "--samples", "2", "--length", "64"});
  EXPECT_EQ(gptq.code, 0);
  EXPECT_THAT(gptq.err, HasSubstr("transformer.wte is looked up row by row"));
}

TEST_F(Plans, CalibrationFromSeveralTextsSavedAndUsedAgain) {
  const std::string text = read_text(demo("text/eval.txt")).substr(0, 40'000);
  const std::string own = write("own.txt", text), saved = file("set.qwbcalib").string();
  const Words base = {"--model", gpt2_, "--group-size", "64", "--include", "h.0.attn.*"};
  const auto with = [&](Words more) {
    more.insert(more.begin(), base.begin(), base.end());
    return more;
  };
  const Words mixed = with({"--calib", "demo", "--calib", own + ":3", "--samples", "8", "--length",
                            "64", "--seed", "4", "--save-calib", saved});
  Words dry = mixed;
  dry.emplace_back("-n");
  EXPECT_EQ(json("quantize", dry)["calibration"]["windows"], 8);
  EXPECT_FALSE(std::filesystem::exists(saved));
  const Json made = json("quantize", mixed);
  EXPECT_EQ(made["calibration"]["name"], "demo+own.txt");
  EXPECT_EQ(made["calibration"]["sources"][0]["windows"], 2);
  EXPECT_EQ(made["calibration"]["sources"][1]["windows"], 6);
  EXPECT_EQ(tool("quantize", mixed).code, 0);  // the same again
  Words other_seed = mixed;
  other_seed[other_seed.size() - 3] = "5";
  const RunResult refused = tool("quantize", other_seed);
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("holds another calibration set"));
  const Json again = json("quantize", with({"--calib", saved}));
  EXPECT_EQ(again["key"], made["key"]);
  EXPECT_EQ(again["cached"], true);
  for (const Words& wrong :
       std::vector<Words>{{"--calib", saved, "--samples", "8"},
                          {"--calib", saved, "--calib", "demo"},
                          {"--calib", saved, "--documents"},
                          {"--calib", own + ":0"},
                          {"--calib", own, "--calib", own + ":2"},
                          {"--method", "rtn", "--save-calib", saved},
                          {"--save-calib", file("set.json").string(), "--samples", "2"}}) {
    EXPECT_EQ(tool("quantize", with(wrong)).code, 2) << ::testing::PrintToString(wrong);
  }
  const RunResult other = tool("quantize", {"--model", llama_, "--calib", saved});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("another tokenizer"));
}

TEST_F(Plans, TheSummaryTellsWhatHappened) {
  const Words request = {"--model",   llama_, "--method", "gptq", "--include", "layers.[01].*",
                         "--samples", "1",    "--length", "16",   "--damping", "0"};
  // 16 tokens leave every matrix of moments singular: without damping none can be factorized.
  const RunResult first = tool("quantize", request);
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.err, HasSubstr("largest relative output error: "));
  EXPECT_THAT(first.err, HasSubstr("time: gptq "));
  EXPECT_THAT(first.err, HasSubstr("damping had to be raised in 14 modules"));
  EXPECT_THAT(first.err, Not(HasSubstr("weight error  ")));
  Words quiet = request, report = request;
  quiet.emplace_back("-q");
  report.emplace_back("--report");
  EXPECT_EQ(tool("quantize", quiet).err, "");
  const RunResult cached = tool("quantize", report);
  EXPECT_EQ(cached.out, first.out);
  EXPECT_THAT(cached.err, HasSubstr("answered from the cache"));
  EXPECT_THAT(cached.err, HasSubstr("raised"));
  EXPECT_THAT(cached.err, HasSubstr("model.layers.1.mlp.down_proj"));
  EXPECT_GE(lines(cached.err).size(), 16u);
  Words as_json = request;
  const Json record = json("quantize", as_json);
  for (const Json& one : record["modules"]) {
    EXPECT_GT(one["damping"].get<double>(), 0);
    EXPECT_GT(one["attempts"].get<int>(), 1);
    EXPECT_EQ(one["settings"]["damping"], 0);
  }
}

}  // namespace
}  // namespace qwb::testing
