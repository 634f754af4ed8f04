// Adapters as a user meets them: --adapter beside a model, qwb-merge, qwb-inspect.
#include <gmock/gmock.h>

#include "formats/qwb/artifact.h"
#include "formats/registry.h"
#include "lib/adapt/bind.h"
#include "lib/adapt/peft_writer.h"
#include "lib/base/rng.h"
#include "lib/model/architecture.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class SlowMergeTool : public ToolTest {
 protected:
  // Random factors of every linear module of the demo gpt2, large enough to show.
  std::string adapter(const std::string& name, uint64_t seed) const {
    const OpenModel open = open_model(gpt2_);
    const Architecture& gpt2 = find_architecture("gpt2", "test");
    const ModelConfig config = gpt2.parse(open.config, "test");
    std::vector<AdaptableModule> modules =
        adaptable_modules(config, gpt2.spec(config, *open.source));
    Adapter made;
    made.settings = {.rank = 2, .alpha = 4};
    Rng rng(seed);
    const auto random = [&](int64_t count) {
      std::vector<float> values(static_cast<size_t>(count));
      for (float& value : values) value = static_cast<float>(0.05 * (rng.uniform() - 0.5));
      return values;
    };
    for (const AdaptableModule& m : modules) {
      if (m.head) continue;
      made.modules.push_back({.module = m.name,
                              .rank = 2,
                              .in = m.in,
                              .out = m.out,
                              .a = random(2 * m.in),
                              .b = random(2 * m.out),
                              .scale = 2});
    }
    write_peft(made, file(name), {.base = modules});
    return file(name).string();
  }
};

TEST_F(SlowMergeTool, MergesExactlyAndTellsWhatWasLost) {
  const std::string tuned = adapter("tuned", 1);
  const std::string base = output(
      "quantize", {"--model", gpt2_, "--method", "nf4", "--out", file("nf4").string(), "-q"});
  const std::vector<std::string> common = {"--model", base, "--adapter", tuned, "--check-kl", "1"};
  const auto merged = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  const Json exact = json("merge", merged({"--onto", "dequantized", "--dtype", "f32", "--out",
                                           file("exact").string(), "--max-kl", "1e-6"}));
  EXPECT_LE(exact["divergence"]["mean_kl"], 1e-6);
  EXPECT_TRUE(exact["modules"][0]["base_error"].is_null());
  EXPECT_EQ(json("inspect", {file("exact").string()})["format"], "huggingface");
  // What the adapter never saw: the original, in 16 bits.
  const RunResult gate =
      tool("merge", merged({"--onto", "source", "--dtype", "bf16", "--out", file("source").string(),
                            "--max-kl", "1e-9", "--json"}));
  EXPECT_EQ(gate.code, 6) << gate.err;
  const Json source = Json::parse(gate.out);
  EXPECT_GT(source["modules"][0]["base_error"], 0);
  EXPECT_LT(source["modules"][0]["kept"], 1.01);
  EXPECT_GT(source["divergence"]["mean_kl"], exact["divergence"]["mean_kl"]);
  EXPECT_THAT(gate.err, HasSubstr("quality gate"));
  // Nothing is replaced, nothing is written without need.
  EXPECT_EQ(tool("merge", merged({"--out", file("exact").string()})).code, 2);
  EXPECT_EQ(json("merge", merged({"--dry-run", "--out", file("dry").string()}))["folder"], nullptr);
  EXPECT_FALSE(fs::exists(file("dry")));
}

// Quantized without a file between: the codes of the exact values.
TEST_F(SlowMergeTool, ThenQuantizesTheExactValues) {
  const std::string tuned = adapter("tuned", 2);
  output("merge", {"--model", gpt2_, "--adapter", tuned, "--dtype", "f32", "--check-kl", "0",
                   "--out", file("f32").string()});
  output("quantize", {"--model", file("f32").string(), "--method", "rtn", "--bits", "4",
                      "--group-size", "32", "--out", file("two").string(), "--no-cache"});
  output("merge", {"--model", gpt2_, "--adapter", tuned, "--check-kl", "0", "--then",
                   "rtn --bits 4 --group-size 32", "--out", file("one").string()});
  const auto one = Artifact::open(file("one")), two = Artifact::open(file("two"));
  ASSERT_EQ(one->quantized_modules(), two->quantized_modules());
  for (const std::string& name : one->quantized_modules()) {
    const PartViews a = one->quantized(name)->parts(), b = two->quantized(name)->parts();
    for (const auto& [part, view] : a)
      EXPECT_TRUE(std::ranges::equal(view.bytes, b.at(part).bytes)) << name << " " << part;
  }
  EXPECT_EQ(one->manifest().json["source"]["made_of"]["adapters"].size(), 1U);
}

TEST_F(SlowMergeTool, ResultsWithAnAdapterAreTheirOwn) {
  const std::string tuned = adapter("tuned", 3);
  const auto value = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {gpt2_, "--ppl", "--windows", "1"});
    return json("eval", more);
  };
  const Json plain = value({}), with = value({"--adapter", tuned});
  const Json half = value({"--adapter", tuned + ":0.5"}), again = value({"--adapter", tuned});
  EXPECT_NE(plain["perplexity"]["value"], with["perplexity"]["value"]);
  EXPECT_NE(half["perplexity"]["value"], with["perplexity"]["value"]);
  EXPECT_EQ(again["perplexity"]["value"], with["perplexity"]["value"]);
  EXPECT_EQ(again["perplexity"]["cached"], true);
  EXPECT_EQ(with["method"], "none+lora");
  EXPECT_EQ(with["adapters"][0]["hash"], json("inspect", {tuned})["hash"]);
  EXPECT_EQ(value({})["perplexity"]["value"], plain["perplexity"]["value"]);
  EXPECT_FALSE(plain.contains("adapters"));
  // Beside the model as in one that took it up.
  output("merge", {"--model", gpt2_, "--adapter", tuned, "--dtype", "f32", "--check-kl", "0",
                   "--out", file("merged").string()});
  EXPECT_EQ(output("complete",
                   {"--model", gpt2_, "--adapter", tuned, "--max-tokens", "8", "Once upon a time"}),
            output("complete",
                   {"--model", file("merged").string(), "--max-tokens", "8", "Once upon a time"}));
  EXPECT_EQ(tool("complete", {"--model", llama_, "--adapter", tuned, "Once"}).code, 1);
  EXPECT_EQ(tool("complete", {"--model", gpt2_, "--adapter", file("absent").string(), "x"}).code,
            3);
}

TEST_F(SlowMergeTool, CombinesAndConvertsAdapters) {
  const std::string a = adapter("a", 4), b = adapter("b", 5);
  const Json sum = json("merge", {"--model", gpt2_, "--adapter", a + ":0.5", "--adapter", b,
                                  "--combine", "exact", "--out", file("sum").string()});
  EXPECT_EQ(sum["modules"][0]["rank"], 4);
  const Json cut = json("merge", {"--model", gpt2_, "--adapter", a, "--adapter", b, "--combine",
                                  "svd", "--rank", "3", "--out", file("cut").string()});
  EXPECT_EQ(cut["modules"][0]["rank"], 3);
  EXPECT_LT(cut["modules"][0]["kept_energy"], 1);
  output("merge", {"--model", gpt2_, "--adapter", file("sum").string(), "--to", "gguf", "--out",
                   file("sum.gguf").string()});
  const std::vector<std::string> text = {"--model", gpt2_, "--max-tokens", "6", "The king"};
  const auto with = [&](const std::string& adapter) {
    std::vector<std::string> all = text;
    all.insert(all.end(), {"--adapter", adapter});
    return output("complete", all);
  };
  EXPECT_EQ(with(file("sum").string()), with(file("sum.gguf").string()));
  EXPECT_EQ(tool("merge", {"--model", gpt2_, "--out", file("x").string()}).code, 2);
  EXPECT_EQ(tool("merge", {"--model", gpt2_, "--adapter", a, "--combine", "exact", "--rank", "3",
                           "--out", file("x").string()})
                .code,
            2);
}

}  // namespace
}  // namespace qwb::testing
