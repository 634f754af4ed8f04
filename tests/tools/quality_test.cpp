// The quality half of qwb-eval as a user runs it: every flag, the gate, what is kept between runs,
// and bad input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "lib/base/json.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/tools/run_helper.h"

namespace qwb::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class EvalQuality : public ::testing::Test {
 protected:
  EvalQuality() : scratch_("eval_quality") {
    std::ofstream(file("text.txt")) << read_text(demo("text/eval.txt")).substr(0, 8'000);
  }
  std::string file(const std::string& name) const { return (scratch_.path() / name).string(); }
  RunResult eval(std::vector<std::string> arguments, RunOptions options = {}) const {
    options.environment.try_emplace("QWB_CACHE", file("cache"));
    options.environment.try_emplace("QWB_MODEL", "");
    options.environment.try_emplace("QWB_DATA", "");
    arguments.insert(arguments.begin(), QWB_BIN_DIR "/qwb-eval");
    return run(arguments, options);
  }
  // Windows of 128 tokens of the short text.
  RunResult brief(std::vector<std::string> arguments, const RunOptions& options = {}) const {
    arguments.insert(arguments.end(), {"--text", file("text.txt"), "--context", "128"});
    return eval(arguments, options);
  }
  Json record(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const RunResult result = brief(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return parse_json(result.out, "record");
  }
  std::string artifact(const std::string& source) const {
    const std::string folder = file("nf4");
    if (!std::filesystem::exists(folder)) make_artifact(demo("gpt2"), "nf4", folder, source);
    return folder;
  }
  std::string task(const std::string& name) const {
    return name + "=" QWB_SOURCE_DIR "/tests/golden/tasks/" + name + ".jsonl";
  }
  Scratch scratch_;
  const std::string gpt2_ = demo("gpt2").string();
};

TEST_F(EvalQuality, HelpNamesEveryFlag) {
  const std::string help = eval({"--help"}).out;
  for (const char* flag :
       {"--protocol", "--stride", "--kl", "--task", "--lm-eval-json", "--baseline", "--no-baseline",
        "--max-kl", "--max-ppl-ratio", "--max-bytes", "--fresh", "gptq", "hf-stride", "lm-eval",
        "hellaswag", "lambada_openai", "wikitext2"})
    EXPECT_THAT(help, HasSubstr(flag));
}

TEST_F(EvalQuality, FlagsThatDoNotGoTogether) {
  const std::vector<std::vector<std::string>> wrong = {{"--stride", "0"},
                                                       {"--stride", "5"},
                                                       {"--protocol", "gptq"},
                                                       {"--kl", "--no-baseline"},
                                                       {"--max-ppl-ratio", "1", "--no-baseline"},
                                                       {"--baseline", gpt2_, "--no-baseline"},
                                                       {"--max-kl", "-1"},
                                                       {"--max-ppl-ratio", "0"},
                                                       {"--max-bytes", "many"},
                                                       {"--task", "nonsense=x"},
                                                       {"--task", "piqa"},
                                                       {"--lm-eval-json", "x"}};
  for (const auto& arguments : wrong) {
    std::vector<std::string> all = {gpt2_};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const RunResult result = eval(all);
    EXPECT_EQ(result.code, 2) << arguments[0] << " " << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(eval({gpt2_, gpt2_, "--task", task("piqa"), "--lm-eval-json", file("x")}).code, 2);
}

TEST_F(EvalQuality, ProtocolsInTheRecord) {
  const Json stride =
      record({gpt2_, "--protocol", "hf-stride", "--stride", "50", "--windows", "3"})["perplexity"];
  EXPECT_EQ(stride["protocol"], "hf-stride");
  EXPECT_EQ(stride["stride"], 50);
  EXPECT_EQ(stride["tokens"], 127 + 50 + 50);
  EXPECT_EQ(stride["interval"].size(), 2u);
  const Json words = record({gpt2_, "--protocol", "lm-eval"})["perplexity"];
  EXPECT_EQ(words["bytes"], 8000);
  EXPECT_GT(words["value"].get<double>(), 3 * words["byte_perplexity"].get<double>());
  EXPECT_NEAR(std::log2(words["byte_perplexity"].get<double>()),
              words["bits_per_byte"].get<double>(), 1e-9);
  EXPECT_TRUE(words["stride"].is_null());
  EXPECT_EQ(record({gpt2_, "--protocol", "gptq"})["perplexity"]["context"], 128);
  EXPECT_THAT(brief({gpt2_, "--protocol", "lm-eval"}).out, HasSubstr("word perplexity (lm-eval)"));
}

TEST_F(EvalQuality, TextsByName) {
  const RunResult absent =
      eval({gpt2_, "--text", "wikitext2"},
           {.environment = {{"HF_HUB_OFFLINE", "1"}, {"HF_HOME", file("hf")}}});
  EXPECT_EQ(absent.code, 3);
  EXPECT_THAT(absent.err, HasSubstr("the text 'wikitext2' is not here"));  // tests/hub has the rest
  std::ofstream(file("wiki.test.raw"))
      << " = A = \n \n " << read_text(demo("text/eval.txt")).substr(0, 5000) << "\n";
  const RunOptions there = {.environment = {{"QWB_DATA", scratch_.path().string()}}};
  const auto measured = [&](const std::string& protocol) {
    const RunResult result =
        eval({gpt2_, "--text", "wikitext2", "--protocol", protocol, "--context", "128", "--json"},
             there);
    return parse_json(result.out, protocol)["perplexity"];
  };
  EXPECT_NE(measured("windows")["token_hash"],
            measured("llama.cpp")["token_hash"]);  // rows joined, and bytes
  EXPECT_EQ(measured("windows")["text_hash"], measured("lm-eval")["text_hash"]);
  std::ofstream(file("lines.jsonl"))
      << "{\"text\": \"one two three four five\"}\n{\"text\": \"six seven\"}\n";
  const RunResult lines =
      eval({gpt2_, "--text", file("lines.jsonl"), "--protocol", "lm-eval", "--json"});
  EXPECT_EQ(parse_json(lines.out, "lines")["perplexity"]["words"], 7);
  EXPECT_EQ(parse_json(lines.out, "lines")["perplexity"]["documents"], 2);
  std::ofstream(file("lines.jsonl"), std::ios::app) << "{\n";
  EXPECT_THAT(eval({gpt2_, "--text", file("lines.jsonl"), "--protocol", "lm-eval"}).err,
              HasSubstr("lines.jsonl:3"));
}

TEST_F(EvalQuality, DivergenceWithItsPerplexities) {
  const Json json = record({artifact(gpt2_), "--kl", "--ppl"});
  const Json& d = json["divergence"];
  EXPECT_GT(d["mean_kl"]["value"].get<double>(), 0.005);
  EXPECT_LT(d["mean_kl"]["interval"][0], d["mean_kl"]["value"]);
  EXPECT_LT(d["kl_quantiles"]["p50"], d["kl_quantiles"]["p99.9"]);
  EXPECT_GT(d["same_top"]["value"].get<double>(), 0.3);
  EXPECT_EQ(d["ratio"]["value"], json["perplexity"]["ratio"]);
  EXPECT_GT(d["memory"]["state_bytes"].get<int64_t>(), 1 << 20);
  EXPECT_EQ(d["baseline"], json["perplexity"]["baseline"]);
  // The same figures as without the divergence.
  EXPECT_EQ(record({artifact(gpt2_), "--ppl", "--fresh"})["perplexity"]["value"],
            json["perplexity"]["value"]);
  EXPECT_TRUE(record({artifact(gpt2_), "--kl"})["perplexity"].is_null());
  const RunResult table = brief({artifact(gpt2_), gpt2_, "--kl", "--ppl"});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(lines(table.out)[0], HasSubstr("mean KL"));
  EXPECT_THAT(lines(table.out)[1],
              ::testing::ContainsRegex("0\\.[0-9]+ ± 0\\.[0-9]+ +[0-9]+\\.[0-9]+ ± "));
}

TEST_F(EvalQuality, TheBaselineCanBeNamed) {
  const std::string lost = artifact("/nonexistent/model");
  const RunResult without = brief({lost, "--kl", "--ppl", "--json"});
  EXPECT_EQ(without.code, 3);
  EXPECT_THAT(without.err, HasSubstr("name it by --baseline"));
  const Json kept = parse_json(without.out, "record");
  EXPECT_GT(kept["perplexity"]["value"].get<double>(), 1);  // what could be measured stands
  EXPECT_TRUE(kept["divergence"].is_null());
  EXPECT_EQ(kept["problems"].size(), 1u);
  const Json named = record({lost, "--kl", "--baseline", gpt2_});
  EXPECT_GT(named["divergence"]["mean_kl"]["value"].get<double>(), 0.005);
  EXPECT_EQ(named["problems"], Json::array());
  EXPECT_EQ(brief({lost, "--baseline", "/nonexistent"}).code, 3);
  // Beside it, it is known by its content.
  const RunResult both = brief({lost, demo("llama").string(), gpt2_, "--kl", "--json"});
  EXPECT_EQ(both.code, 0) << both.err;
  EXPECT_EQ(parse_json(lines(both.out)[0], "record")["divergence"]["mean_kl"],
            named["divergence"]["mean_kl"]);
  EXPECT_EQ(brief({lost, demo("llama").string(), "--kl"}).code, 3);
  // Whoever is not named is compared, an original too.
  std::filesystem::copy(gpt2_, file("copy"), std::filesystem::copy_options::recursive);
  EXPECT_EQ(record({file("copy"), "--baseline", gpt2_})["perplexity"]["ratio"], 1);
  EXPECT_TRUE(record({lost, "--baseline", lost})["perplexity"]["ratio"].is_null());
}

TEST_F(EvalQuality, ForeignBaselinesAreRefusedAndTheRestIsKept) {
  const RunResult result =
      brief({artifact(gpt2_), "--kl", "--ppl", "--baseline", demo("llama").string(), "--json"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("split the text differently"));
  EXPECT_GT(parse_json(result.out, "record")["perplexity"]["value"].get<double>(), 1);
}

TEST_F(EvalQuality, TasksAndFlips) {
  const RunResult result = brief({artifact(gpt2_), "--task", task("hellaswag") + ",shots=1,limit=6",
                                  "--task", task("lambada_openai") + ",limit=8", "--lm-eval-json",
                                  file("results.json"), "--json"});
  EXPECT_EQ(result.code, 0) << result.err;
  const Json json = parse_json(result.out, "record");
  EXPECT_TRUE(json["perplexity"].is_null());
  ASSERT_EQ(json["tasks"].size(), 2u);
  EXPECT_EQ(json["tasks"][0]["items"], 6);
  EXPECT_EQ(json["tasks"][0]["items_in_file"], 24);
  EXPECT_EQ(json["tasks"][0]["shots"], 1);
  EXPECT_TRUE(json["tasks"][0]["acc_norm"].is_object());
  EXPECT_TRUE(json["tasks"][1]["acc_norm"].is_null());
  EXPECT_GT(json["tasks"][1]["perplexity"]["value"].get<double>(), 1);
  EXPECT_GE(json["tasks"][0]["flips"]["to_wrong"].get<int>(), 0);
  const Json theirs = parse_json(read_text(file("results.json")), "results");
  EXPECT_EQ(theirs["results"]["hellaswag"]["acc,none"], json["tasks"][0]["acc"]["value"]);
  const RunResult table = brief({artifact(gpt2_), "--task", task("piqa") + ",limit=4"});
  EXPECT_THAT(table.out, HasSubstr("\n\nartifact"));
  EXPECT_THAT(table.out, HasSubstr("flips"));
  std::ofstream(file("broken.jsonl")) << "{\"text\": \"a b\"}\n{\"text\": 5}\n";
  const RunResult broken = brief({gpt2_, "--task", "lambada_openai=" + file("broken.jsonl")});
  EXPECT_EQ(broken.code, 1);
  EXPECT_THAT(broken.err, HasSubstr("broken.jsonl:2"));
}

TEST_F(EvalQuality, TheGate) {
  const std::string nf4 = artifact(gpt2_);
  EXPECT_EQ(brief({nf4, gpt2_, "--max-kl", "2", "--max-ppl-ratio", "5", "--max-bytes", "1G"}).code,
            0);
  const RunResult kl = brief({nf4, "--max-kl", "0.001", "--json"});
  EXPECT_EQ(kl.code, 6);
  EXPECT_THAT(kl.err, HasSubstr("the mean divergence is 0."));
  EXPECT_FALSE(parse_json(kl.out, "record")["divergence"].is_null());  // printed all the same
  const RunResult ratio = brief({nf4, "--max-ppl-ratio", "1.0001"});
  EXPECT_EQ(ratio.code, 6);
  EXPECT_THAT(ratio.err, HasSubstr("the ratio of perplexities is "));
  const RunResult bytes = brief({nf4, "--max-bytes", "1k"});
  EXPECT_EQ(bytes.code, 6);
  EXPECT_THAT(bytes.err, HasSubstr("--max-bytes 1000"));
  EXPECT_THAT(bytes.out, HasSubstr("nf4"));
}

TEST_F(EvalQuality, ResultsAreKept) {
  const std::string nf4 = artifact(gpt2_);
  const std::vector<std::string> work = {nf4, "--ppl", "--kl", "--task", task("piqa") + ",limit=4"};
  const Json first = record(work), second = record(work);
  EXPECT_EQ(first["divergence"]["cached"], false);
  EXPECT_EQ(second["divergence"]["cached"], true);
  EXPECT_EQ(second["tasks"][0]["cached"], true);
  EXPECT_EQ(second["perplexity"]["cached"], true);
  EXPECT_EQ(second["divergence"]["mean_kl"], first["divergence"]["mean_kl"]);
  EXPECT_EQ(second["divergence"]["kl_quantiles"], first["divergence"]["kl_quantiles"]);
  EXPECT_EQ(second["perplexity"]["interval"], first["perplexity"]["interval"]);
  EXPECT_EQ(second["tasks"][0]["flips"], first["tasks"][0]["flips"]);
  EXPECT_TRUE(second["memory"].is_null());  // nothing ran
  std::vector<std::string> fresh = work;
  fresh.emplace_back("--fresh");
  EXPECT_EQ(record(fresh)["divergence"]["cached"], false);
  // By content: a copy elsewhere has the same results, another text has not.
  std::filesystem::copy(gpt2_, file("copy"), std::filesystem::copy_options::recursive);
  EXPECT_EQ(record({gpt2_, "--windows", "3"})["perplexity"]["cached"], false);
  EXPECT_EQ(record({file("copy"), "--windows", "3"})["perplexity"]["cached"], true);
  EXPECT_EQ(record({file("copy"), "--windows", "4"})["perplexity"]["cached"], false);
  // A damaged result is measured again.
  for (const auto& entry : std::filesystem::recursive_directory_iterator(file("cache/results"))) {
    if (entry.path().filename() != "result.json") continue;
    std::filesystem::permissions(entry.path(), std::filesystem::perms::owner_all);
    std::ofstream(entry.path(), std::ios::trunc) << "{";
  }
  EXPECT_EQ(record({gpt2_, "--windows", "3"})["perplexity"]["cached"], false);
}

TEST_F(EvalQuality, InterruptedWorkGoesOn) {
  std::ofstream(file("long.txt")) << read_text(demo("text/eval.txt")).substr(0, 80'000);
  const std::vector<std::string> work = {
      gpt2_, "--context", "64", "--text", file("long.txt"), "--ppl", "--json", "--threads", "1"};
  const RunResult stopped = eval(work, interrupted_at("so far"));
  EXPECT_EQ(stopped.code, 130);
  EXPECT_FALSE(std::filesystem::is_empty(file("cache/evaluations")));
  const RunResult done = eval(work);
  EXPECT_EQ(done.code, 0);
  EXPECT_THAT(done.err, HasSubstr("of an interrupted run"));
  EXPECT_TRUE(std::filesystem::is_empty(file("cache/evaluations")));
  std::vector<std::string> again = work;
  again.emplace_back("--fresh");
  const RunResult whole = eval(again);
  EXPECT_THAT(whole.err, Not(HasSubstr("interrupted run")));
  EXPECT_EQ(parse_json(whole.out, "whole")["perplexity"],
            parse_json(done.out, "done")["perplexity"]);
}

TEST_F(EvalQuality, WithoutWriteAccessNothingIsKeptAndAllIsMeasured) {
  std::ofstream(file("cache")) << "in the way";
  const RunResult result = brief({gpt2_, "--windows", "2", "--json"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("cannot be kept"));
  EXPECT_GT(parse_json(result.out, "record")["perplexity"]["value"].get<double>(), 1);
}

TEST_F(EvalQuality, DamageIsAnErrorOfItsOwnRow) {
  const std::string nf4 = artifact(gpt2_);
  EXPECT_EQ(brief({nf4, "--windows", "2"}).code, 0);  // kept; then the artifact is damaged
  std::filesystem::resize_file(nf4 + "/model.safetensors", 100'000);
  const RunResult result = brief({nf4, gpt2_, "--windows", "2", "--json"});
  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(lines(result.out).size(), 1u);  // the other model's row
  EXPECT_THAT(result.err, HasSubstr("differ from qwb.sums: model.safetensors"));
}

// One bit of the weights, which no size and no header tells.
TEST_F(EvalQuality, ABitThatFlippedAfterTheArtifactWasCachedIsSeen) {
  const RunResult made =
      run({QWB_BIN_DIR "/qwb-quantize", "--model", gpt2_, "--method", "nf4", "-q"},
          {.environment = {{"QWB_CACHE", file("cache")}}});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string folder = lines(made.out).back();
  const std::vector<std::string> work = {folder, gpt2_, "--windows", "2", "--json"};
  EXPECT_EQ(lines(brief(work).out).size(), 2u);
  const std::string weights = folder + "/model.safetensors";
  const auto time = std::filesystem::last_write_time(weights);
  flip_a_bit(weights);
  std::filesystem::last_write_time(weights, time);  // a disk that rots does not touch it
  const RunResult result = brief(work);
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, HasSubstr("differ from qwb.sums: model.safetensors"));
  EXPECT_EQ(lines(result.out).size(), 1u);
}

// Wherever the weights are broken, the module is named, and what was measured before is printed.
TEST_F(EvalQuality, NaNNamesTheModuleAndStopsOnlyItsOwnRow) {
  std::filesystem::copy(gpt2_, file("broken"), std::filesystem::copy_options::recursive);
  const std::string weights = file("broken/model.safetensors");
  std::filesystem::permissions(weights, std::filesystem::perms::owner_all);
  std::fstream bytes(weights, std::ios::in | std::ios::out | std::ios::binary);
  uint64_t header = 0;
  bytes.read(reinterpret_cast<char*>(&header), 8);
  std::string text(header, ' ');
  bytes.read(text.data(), static_cast<std::streamsize>(header));
  const Json tensors = parse_json(text, "header");
  for (const auto& [name, tensor] : tensors.items()) {
    if (!name.ends_with("h.2.mlp.c_proj.weight")) continue;
    const uint32_t nan = 0x7fc00000;  // the demo gpt2 is f32
    bytes.seekp(
        static_cast<std::streamoff>(8 + header + tensor["data_offsets"][0].get<uint64_t>()));
    bytes.write(reinterpret_cast<const char*>(&nan), 4);
  }
  bytes.close();
  const RunResult result = brief({gpt2_, file("broken"), "--windows", "2", "--json"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err,
              HasSubstr("NaN or Inf first appears in block 2, transformer.h.2.mlp.c_proj"));
  ASSERT_EQ(lines(result.out).size(), 1u);
  EXPECT_GT(parse_json(lines(result.out)[0], "record")["perplexity"]["value"].get<double>(), 1);
}

TEST_F(EvalQuality, ATextShorterThanOneWindowSaysSo) {
  std::ofstream(file("short.txt")) << "Once upon a time";
  for (const char* protocol : {"windows", "llama.cpp"}) {
    const RunResult result =
        eval({gpt2_, "--text", file("short.txt"), "--context", "128", "--protocol", protocol,
              "--task", task("piqa") + ",limit=2", "--ppl", "--json"});
    EXPECT_EQ(result.code, 2) << protocol;
    EXPECT_THAT(result.err, HasSubstr(std::string("tokens, but protocol ") + protocol)) << protocol;
    EXPECT_EQ(parse_json(result.out, "record")["tasks"].size(),
              1u);  // what could be measured is kept
  }
  EXPECT_EQ(eval({gpt2_, "--text", file("short.txt"), "--protocol", "hf-stride"}).code,
            0);  // it takes any
}

TEST_F(EvalQuality, RecordsOfOtherSchemasAreRefused) {
  std::ofstream(file("old.json")) << R"({"schema": 1, "artifact": "a", "method": "rtn"})"
                                  << "\n";
  const RunResult result = eval({"--table", file("old.json")});
  EXPECT_EQ(result.code, 5);
  EXPECT_THAT(result.err, HasSubstr("a record of schema 1; this qwb-eval reads schema 2"));
}

}  // namespace
}  // namespace qwb::testing
