// No tool destroys what it did not make, nor what it reads; comparisons check the hashes that they
// have.
#include <gmock/gmock.h>

#include "tests/report/record_helper.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class OutputsToolTest : public ToolTest {
 protected:
  // Refused with exit 2, nothing in the scratch folder changed.
  void refused(const std::string& name, Words arguments, const std::string& why) {
    const std::string before = snapshot();
    for (const char* flag : {"-q", "--force"}) {
      Words all = arguments;
      all.insert(all.end(), {"-q", flag});
      const RunResult result = tool(name, all);
      EXPECT_EQ(result.code, 2) << name << " " << arguments.back() << ": " << result.err;
      if (std::string(flag) == "--force") {
        EXPECT_THAT(result.err, HasSubstr(why)) << name;
      }
      EXPECT_EQ(lines(result.err).size(), 1u) << result.err;
    }
    EXPECT_EQ(snapshot(), before);
  }
  // Every file outside of the cache with its size.
  std::string snapshot() const {
    std::map<std::string, uintmax_t> files;
    for (auto it = fs::recursive_directory_iterator(scratch_.path());
         it != fs::recursive_directory_iterator(); ++it) {
      if (it->path() == cache())
        it.disable_recursion_pending();
      else
        files[it->path().string()] = it->is_regular_file() ? it->file_size() : 0;
    }
    std::string text;
    for (const auto& [file, size] : files) text += file + " " + std::to_string(size) + "\n";
    return text;
  }
};

TEST_F(OutputsToolTest, FoldersAndModelsSurvive) {
  const std::string model = copy_demo("gpt2").string();
  write("thesis.txt", "ten days of work");
  const std::string all = scratch_.path().string();
  const Words quantize = {"--model", model, "--method", "int8", "--no-cache", "--out"};
  const auto out = [&](const std::string& place) {
    Words words = quantize;
    words.push_back(place);
    return words;
  };
  refused("quantize", out(all), "did not write it");
  refused("quantize", out(model), "did not write it");
  refused("quantize", out(model + "/deep/out"), "lies in what is read");
  refused("convert", {model, "--to", "huggingface", model}, "did not write it");
  refused("convert", {model, "--to", "huggingface", model + "/out"}, "lies in what is read");
  refused("convert", {model, "--to", "gguf", model + "/config.json"}, "OUT");
  refused("convert", {model, "--to", "gguf", file("thesis.txt").string()}, "none that OUT writes");
  // Folders that our tools wrote, whatever the format: theirs to replace until something else lies
  // in them.
  const std::string art = file("art").string(), plain = file("plain").string();
  output("quantize", out(art));
  output("convert", {art, "--to", "huggingface", plain});
  EXPECT_TRUE(fs::exists(file("plain") / ".qwb-files"));
  refused("convert", {art, "--to", "huggingface", art}, "lies in what is read");
  refused("convert", {plain, "--to", "huggingface", plain + "/.."}, "did not write it");
  for (const std::string& place : {art, plain}) {
    Words forced = out(place);
    EXPECT_EQ(tool("quantize", forced).code, 2);
    forced.emplace_back("--force");
    EXPECT_EQ(tool("quantize", forced).code, 0) << place;
    write(fs::path(place).filename().string() + "/README.md", "my notes");
    refused("quantize", out(place), "README.md");
  }
}

// --force replaces reports by reports, pictures by pictures, nothing else.
TEST_F(OutputsToolTest, OnlyOwnFilesAreReplaced) {
  const std::string model = copy_demo("gpt2").string();
  const std::string record = write("r.json", json_text(size_record("m", "none", 10, 16)));
  for (const char* name : {"thesis.md", "notes.txt", "page.html", "table.csv", "data.json"}) {
    const std::string mine = write(name, R"({"mine": "ten days of work"})");
    refused("report", {record, "--out", mine}, "the file stays");
    const std::string ours = write(std::string("own_") + name, "");
    for (int round = 0; round < 2; ++round)
      EXPECT_EQ(tool("report", {record, "--out", ours, "--force", "-q"}).code, 0) << ours;
  }
  refused("report", {record, "--out", model + "/tokenizer.json"}, "the file stays");
  write("hs.jsonl",
        R"({"ctx": "a b", "endings": ["c", "d", "e", "f"], "label": 0, "activity_label": "x"})");
  refused("eval",
          {gpt2_, "--task", "hellaswag=" + file("hs.jsonl").string(), "--no-baseline",
           "--lm-eval-json", model + "/config.json"},
          "the file stays");
}

TEST_F(OutputsToolTest, FilesAskForForceAlike) {
  const std::string record = write("r.json", json_text(size_record("m", "none", 10, 16)));
  const std::string page = file("page.html").string(), calib = write("c.qwbcalib", "mine");
  output("report", {record, "--out", page, "--title", "premiere"});
  EXPECT_THAT(tool("report", {record, "--out", page}).err, HasSubstr("--force"));
  EXPECT_THAT(read_text(page), HasSubstr("premiere"));
  EXPECT_EQ(tool("report", {record, "--out", page, "--force"}).code, 0);
  EXPECT_THAT(read_text(page), ::testing::Not(HasSubstr("premiere")));
  refused("report", {record, "--out", record}, "what is read");
  refused("report", {"a=" + record, "--out", file("./r.json").string()}, "what is read");
  refused("report",
          {record, "--out", file("a.md").string(), "--out",
           scratch_.path().string() + "/../" + scratch_.path().filename().string() + "/a.md"},
          "named twice");
  refused("quantize",
          {"--model", gpt2_, "--samples", "1", "--length", "8", "--save-calib", calib, "-n"},
          "none that --save-calib writes");
  const std::string task = write("t.jsonl", "{}");
  refused("eval", {gpt2_, "--task", "boolq=" + task, "--lm-eval-json", task}, "the file stays");
  if (fs::exists("/dev/null"))
    refused("eval", {gpt2_, "--task", "boolq=" + task, "--lm-eval-json", "/dev/null"},
            "no regular file");
}

TEST_F(OutputsToolTest, PlacesAreTriedBeforeTheWork) {
  const std::string long_name = file(std::string(300, 'x')).string();
  for (const std::string& place :
       {long_name, std::string("/proc/x/y"), gpt2_ + "/config.json/below"}) {
    for (const Words& words : {Words{"quantize", "--model", gpt2_, "--out", place},
                               Words{"convert", gpt2_, "--to", "huggingface", place},
                               Words{"convert", gpt2_, "--to", "gguf", place + ".gguf"}}) {
      const RunResult result = tool(words[0], Words(words.begin() + 1, words.end()));
      EXPECT_NE(result.code, 0);
      EXPECT_EQ(lines(result.err).size(), 1u) << result.err;
      EXPECT_EQ(result.err.find("filesystem error"), std::string::npos) << result.err;
    }
  }
  EXPECT_TRUE(cache_content().empty());
}

TEST_F(OutputsToolTest, DryRunsLeaveNothing) {
  const std::string before = snapshot();
  EXPECT_EQ(tool("quantize",
                 {"--model", gpt2_, "--method", "int8", "-n", "--out", file("deep/o").string()})
                .code,
            0);
  EXPECT_EQ(tool("convert", {gpt2_, "--to", "gguf", file("m.gguf").string(), "-n"}).code, 0);
  EXPECT_EQ(tool("cache", {"gc", "-n"}).code, 0);
  EXPECT_EQ(snapshot(), before);
  EXPECT_FALSE(fs::exists(cache()));
}

TEST_F(OutputsToolTest, AChangedOriginalIsNoBaseline) {
  const Path model = copy_demo("gpt2");
  const std::string art = file("art").string();
  output("quantize", {"--model", model, "--method", "int8", "--no-cache", "--out", art});
  const Words measure = {art, "--windows", "2", "--context", "64", "--ppl"};
  const auto eval = [&](Words more) {
    more.insert(more.begin(), measure.begin(), measure.end());
    return tool("eval", more);
  };
  EXPECT_EQ(eval({"--max-ppl-ratio", "1000"}).code, 0);
  // As if it had been trained on: the same file, other values.
  flip_a_bit(model / "model.safetensors");
  const RunResult gate = eval({"--max-ppl-ratio", "1000"});
  EXPECT_EQ(gate.code, 6);
  EXPECT_THAT(gate.err, HasSubstr("has changed since"));
  EXPECT_EQ(eval({"--kl"}).code, 4);
  const RunResult plain = eval({});
  EXPECT_EQ(plain.code, 0);
  EXPECT_THAT(plain.err, HasSubstr("has changed since"));
  const RunResult chosen = eval({"--baseline", model.string()});
  EXPECT_EQ(chosen.code, 0);
  EXPECT_THAT(chosen.err, HasSubstr("is not the model that"));
}

TEST_F(OutputsToolTest, AGateThatCannotBeAppliedFails) {
  const std::string art = file("art").string(), plain = file("plain").string();
  output("quantize", {"--model", gpt2_, "--method", "int8", "--no-cache", "--out", art});
  output("convert", {art, "--to", "huggingface", plain});
  const Words few = {"--windows", "2", "--context", "64"};
  const auto eval = [&](Words words) {
    words.insert(words.end(), few.begin(), few.end());
    return tool("eval", words);
  };
  for (const char* flag : {"--max-ppl-ratio", "--max-kl"}) {
    const RunResult alone = eval({plain, flag, "1.5"});
    EXPECT_EQ(alone.code, 6) << flag;
    EXPECT_THAT(alone.err, HasSubstr("name it by --baseline"));
    EXPECT_EQ(eval({plain, "--baseline", gpt2_, flag, "1.5"}).code, 0) << flag;
    EXPECT_EQ(eval({gpt2_, art, flag, "1.5"}).code, 0) << flag;  // the original beside its artifact
    EXPECT_EQ(eval({gpt2_, art, plain, flag, "1.5"}).code, 6) << flag;  // but not any plain model
  }
  for (const char* bound : {"", "nan", "inf", "-1", "x", "1,5", "1e999"}) {
    for (const char* flag : {"--max-kl", "--max-ppl-ratio", "--max-bytes"}) {
      const RunResult wrong = tool("eval", {art, flag, bound});
      EXPECT_EQ(wrong.code, 2) << flag << " '" << bound << "': " << wrong.err;
      EXPECT_LT(wrong.err.size(), 200u);
    }
  }
  for (const char* flag : {"--max-kl", "--max-ppl-ratio", "--max-bytes"})
    EXPECT_EQ(tool("eval", {art, flag}).code, 2);
}

}  // namespace
}  // namespace qwb::testing
