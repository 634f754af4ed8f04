// What goes wrong around qwb-eval: broken weights, damaged baselines, no place to write, a kill.
// Each is an error that says what it was, and what was finished is kept.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class EvalFaults : public ToolTest {
 protected:
  EvalFaults() { write("text.txt", read_text(demo("text/eval.txt")).substr(0, 8'000)); }
  // Two windows of 128 tokens.
  RunResult brief(std::vector<std::string> arguments, const RunOptions& options = {}) const {
    arguments.insert(arguments.end(), {"--text", file("text.txt").string(), "--context", "128",
                                       "--windows", "2", "--json"});
    return tool("eval", arguments, options);
  }
  std::string artifact(const std::string& name, const std::vector<std::string>& method) const {
    std::vector<std::string> arguments = {"--model", gpt2_, "--out", file(name).string()};
    arguments.insert(arguments.end(), method.begin(), method.end());
    output("quantize", arguments);
    return file(name).string();
  }
  // A copy of the demo gpt2 with one NaN among the weights of block 2.
  std::string with_nan() const {
    const std::string folder = copy_demo("gpt2").string();
    std::fstream bytes(folder + "/model.safetensors",
                       std::ios::in | std::ios::out | std::ios::binary);
    uint64_t size = 0;
    bytes.read(reinterpret_cast<char*>(&size), sizeof size);
    std::string text(size, ' ');
    bytes.read(text.data(), static_cast<std::streamsize>(size));
    const Json tensors = parse_json(text, "header");
    const auto begin =
        tensors["transformer.h.2.mlp.c_proj.weight"]["data_offsets"][0].get<uint64_t>();
    const uint32_t nan = 0x7fc00000;  // the demo gpt2 is f32
    bytes.seekp(static_cast<std::streamoff>(sizeof size + size + begin));
    bytes.write(reinterpret_cast<const char*>(&nan), sizeof nan);
    return folder;
  }
  std::string task(const std::string& name) const {
    return name + "=" QWB_SOURCE_DIR "/tests/golden/tasks/" + name + ".jsonl";
  }
};

TEST_F(EvalFaults, NaNIsNamedWithItsModelInDivergencesAndTasksToo) {
  const std::string broken = with_nan(), nf4 = artifact("nf4", {"--method", "nf4"});
  const char* const place = "NaN or Inf first appears in block 2, transformer.h.2.mlp.c_proj";
  const RunResult tasks = brief({broken, "--task", task("piqa") + ",limit=2"});
  EXPECT_EQ(tasks.code, 1);
  EXPECT_THAT(tasks.err, HasSubstr(place));
  // A broken artifact, and a broken baseline of a good one.
  for (const auto& [subject, baseline] : {std::pair{broken, gpt2_}, std::pair{nf4, broken}}) {
    const RunResult kl = brief({subject, "--kl", "--ppl", "--baseline", baseline});
    EXPECT_EQ(kl.code, 1);
    EXPECT_THAT(kl.err, HasSubstr(place));
    EXPECT_THAT(kl.err,
                HasSubstr(subject + (subject == broken ? ": window" : ": the baseline: window")));
    EXPECT_EQ(kl.out.empty(), subject == broken);  // the good one's own perplexity stands
  }
  EXPECT_THAT(brief({nf4, "--kl", "--baseline", broken}).err,
              HasSubstr(nf4 + ": the baseline: window"));
}

TEST_F(EvalFaults, ADamagedBaselineIsRefused) {
  const std::string base = artifact("base", {"--method", "none", "--dtype", "f16"}),
                    nf4 = artifact("nf4", {"--method", "nf4"});
  ASSERT_EQ(brief({nf4, "--kl", "--baseline", base}).code, 0);
  flip_a_bit(base + "/model.safetensors");
  const RunResult result = brief({nf4, "--kl", "--baseline", base});
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, HasSubstr("differ from qwb.sums: model.safetensors"));
}

// The same damage in every tool that runs an artifact or makes another of it.
TEST_F(EvalFaults, ADamagedArtifactIsRefusedByAll) {
  const std::string nf4 = artifact("nf4", {"--method", "nf4"});
  flip_a_bit(nf4 + "/model.safetensors");
  const std::vector<std::pair<const char*, std::vector<std::string>>> uses = {
      {"complete", {"--model", nf4, "Hello", "--max-tokens", "1"}},
      {"convert", {nf4, nf4 + "-plain", "--to", "huggingface"}},
      {"convert", {nf4, nf4 + ".gguf", "--to", "gguf", "--type", "q8_0"}},
      {"eval", {nf4, "--ppl"}}};
  for (const auto& [name, words] : uses) {
    const RunResult result = tool(name, words);
    EXPECT_EQ(result.code, 4) << name << result.err;
    EXPECT_THAT(result.err, HasSubstr("differ from qwb.sums: model.safetensors"));
  }
  EXPECT_FALSE(std::filesystem::exists(nf4 + "-plain") || std::filesystem::exists(nf4 + ".gguf"));
}

TEST_F(EvalFaults, WhatCannotBePrintedIsKept) {
  const std::vector<std::string> work = {gpt2_, "--ppl", "--task", task("piqa") + ",limit=2"};
  const RunResult full = brief(work, {.stdout_path = "/dev/full"});
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.err, HasSubstr("error: "));
  const Json record = parse_json(brief(work).out, "record");
  EXPECT_EQ(record["perplexity"]["cached"], true);
  EXPECT_EQ(record["tasks"][0]["cached"], true);
}

TEST_F(EvalFaults, AFileThatCannotBeWrittenCostsNoFigures) {
  const std::string place = write("plain", "x") + "/answers.json";  // below a file
  const RunResult early =
      brief({gpt2_, "--task", task("piqa") + ",limit=2", "--lm-eval-json", place});
  EXPECT_EQ(early.code, 1);
  EXPECT_THAT(early.err, HasSubstr("Not a directory"));
  EXPECT_EQ(early.out, "");  // before the work
  const std::string answers = file("answers.json").string();
  const RunResult result =
      brief({gpt2_, "--task", task("piqa") + ",limit=2", "--lm-eval-json", answers},
            {.file_size_limit = 100});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("answers.json"));
  EXPECT_FALSE(std::filesystem::exists(answers));
  EXPECT_EQ(parse_json(result.out, "record")["tasks"][0]["items"], 2);
}

TEST_F(EvalFaults, ABrokenTaskFileIsToldBeforeAnythingIsMeasured) {
  const std::string broken = write("broken.jsonl", "{\"text\": \"a b\"}\n{\"text\": \n");
  const RunResult result = brief({gpt2_, "--ppl", "--task", "lambada_openai=" + broken});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("broken.jsonl:2"));
  EXPECT_THAT(result.err, Not(HasSubstr("tokens scored")));
  EXPECT_EQ(result.out, "");
}

// A gate whose figure is missing is closed, not open.
TEST_F(EvalFaults, AGateThatCannotBeJudgedIsClosed) {
  const std::string nf4 = artifact("nf4", {"--method", "nf4"});
  Json manifest = parse_json(read_text(nf4 + "/qwb.json"), "qwb.json");
  manifest["source"] = Json::object();
  std::filesystem::remove(nf4 + "/qwb.json");
  std::filesystem::remove(nf4 + "/qwb.sums");
  write("nf4/qwb.json", manifest.dump());
  const RunResult ratio = brief({nf4, "--max-ppl-ratio", "9"});
  EXPECT_EQ(ratio.code, 6);
  EXPECT_THAT(ratio.err, HasSubstr("there is no ratio of perplexities (--max-ppl-ratio)"));
  const RunResult kl = brief({nf4, "--ppl", "--max-kl", "9"});
  EXPECT_EQ(kl.code, 3);  // the reason comes first
  EXPECT_THAT(kl.err, HasSubstr("name it by --baseline"));
  EXPECT_THAT(kl.err, HasSubstr("quality gate: " + nf4 +
                                ": the divergence could not be measured (--max-kl)"));
}

TEST_F(EvalFaults, InterruptedDivergencesAndTasksGoOn) {
  const std::string nf4 = artifact("nf4", {"--method", "nf4"});
  const std::string text = write("long.txt", read_text(demo("text/eval.txt")).substr(0, 60'000));
  std::string items;
  for (int i = 0; i < 40; ++i)
    items += read_text(QWB_SOURCE_DIR "/tests/golden/tasks/lambada_openai.jsonl");
  const std::vector<std::vector<std::string>> works = {
      {nf4, "--kl", "--context", "64", "--text", text},
      {gpt2_, "--task", "lambada_openai=" + write("many.jsonl", items)}};
  for (std::vector<std::string> work : works) {
    work.insert(work.end(), {"--threads", "1", "--json"});
    const RunResult stopped = tool("eval", work, interrupted_at("so far"));
    EXPECT_EQ(stopped.code, 130);
    const RunResult done = tool("eval", work);
    EXPECT_EQ(done.code, 0) << done.err;
    EXPECT_THAT(done.err, HasSubstr("pieces of an interrupted run"));
    work.emplace_back("--fresh");
    const Json whole = parse_json(output("eval", work), "whole"),
               part = parse_json(done.out, "part");
    EXPECT_EQ(whole["divergence"], part["divergence"]);
    EXPECT_EQ(whole["tasks"], part["tasks"]);
  }
}

}  // namespace
}  // namespace qwb::testing
