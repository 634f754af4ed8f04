// qwb-cache as a user runs it, on artifacts of the demo gpt2.
#include <gmock/gmock.h>

#include <fstream>

#include "lib/base/file.h"
#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

class CacheTool : public ToolTest {
 protected:
  // Makes an artifact; gives its key.
  std::string make(const Words& more) const {
    Words words = {"--model", gpt2_};
    words.insert(words.end(), more.begin(), more.end());
    return json("quantize", words)["key"];
  }
  void damage(const std::string& key) const {
    const Path target =
        cache() / "objects" / key.substr(0, 2) / key.substr(2) / "data/model.safetensors";
    std::fstream stream(target, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(100'000).put('\x7e').put('\x7f');
  }
  std::vector<Json> rows(const Words& words) const {
    std::vector<Json> result;
    for (const std::string& line : lines(output("cache", words)))
      result.push_back(parse_json(line, "row"));
    return result;
  }
};

TEST_F(CacheTool, HelpAndWrongCommands) {
  const std::string help = output("cache", {"--help"});
  for (const char* word : {"ls", "path", "why", "verify", "gc", "rm", "Examples:", "QWB_CACHE"})
    EXPECT_THAT(help, HasSubstr(word));
  EXPECT_THAT(output("cache", {"gc", "--help"}), HasSubstr("--max-bytes"));
  EXPECT_THAT(output("cache", {"gc", "--help"}), HasSubstr("--max-age"));
  for (const char* flag : {"--model", "--method", "--bits", "--group-size", "--asymmetric",
                           "--calib", "--samples", "--seed"})
    EXPECT_THAT(output("cache", {"why", "--help"}), HasSubstr(flag));
  for (const Words& words : std::vector<Words>{{},
                                               {"nonsense"},
                                               {"path"},
                                               {"rm"},
                                               {"ls", "x"},
                                               {"path", "a", "b"},
                                               {"gc", "--max-bytes", "much"},
                                               {"gc", "--max-age", "old"},
                                               {"why", "--method", "magic"}}) {
    EXPECT_EQ(tool("cache", words).code, 2) << ::testing::PrintToString(words);
  }
}

TEST_F(CacheTool, AnEmptyCache) {
  EXPECT_EQ(output("cache", {"ls"}), "");
  EXPECT_THAT(tool("cache", {"ls"}).err, HasSubstr("0 objects"));
  EXPECT_EQ(output("cache", {"verify"}), "");
  EXPECT_EQ(output("cache", {"gc", "--max-bytes", "0"}), "");
  EXPECT_EQ(tool("cache", {"path", "newest"}).code, 3);
  EXPECT_EQ(output("cache", {"why", "--model", gpt2_, "--method", "nf4"}),
            "not cached; the cache is empty");
  EXPECT_FALSE(fs::exists(cache() / "objects"));  // looking makes nothing
}

TEST_F(CacheTool, ListAndPath) {
  const std::string first = make({"--method", "nf4"});
  const std::string second = make({"--method", "rtn", "--bits", "3"});
  const auto table = lines(output("cache", {"ls"}));
  ASSERT_EQ(table.size(), 3u);
  EXPECT_THAT(table[0], HasSubstr("last used"));
  EXPECT_THAT(table[1], HasSubstr(second.substr(0, 10)));  // newest first, also within one second
  EXPECT_THAT(table[1], ::testing::ContainsRegex("rtn +3 +gpt2 +[0-9.]+ MB"));
  const auto all = rows({"ls", "--json"});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1]["key"], first);
  EXPECT_EQ(all[1]["method"], "nf4");
  EXPECT_EQ(all[1]["bits"], 4);
  EXPECT_EQ(all[1]["model"], "gpt2");
  EXPECT_GT(all[1]["bytes"].get<int64_t>(), 4'000'000);
  EXPECT_GE(all[1]["last_used"].get<int64_t>(), all[1]["created"].get<int64_t>());
  const std::string path = output("cache", {"path", "newest"});
  EXPECT_EQ(all[0]["path"], path);
  EXPECT_TRUE(fs::exists(Path(path) / "qwb.json"));
  EXPECT_EQ(all[1]["path"], output("cache", {"path", first.substr(0, 6)}));
  EXPECT_EQ(json("cache", {"path", first})["key"], first);
}

TEST_F(CacheTool, UnknownAndAmbiguousPrefixes) {
  const std::string key = make({"--method", "nf4"});
  const RunResult unknown = tool("cache", {"path", key[0] == 'f' ? "0" : "f"});
  EXPECT_EQ(unknown.code, 3);
  EXPECT_EQ(unknown.out, "");
  EXPECT_THAT(unknown.err, HasSubstr("qwb-cache ls"));
  EXPECT_EQ(tool("cache", {"path", "zebra"}).code, 3);
  // A folder of the right form is an object, damaged; its key shares four digits.
  const std::string twin = key.substr(0, 4) + std::string(28, key[4] == '0' ? '1' : '0');
  fs::create_directories(cache() / "objects" / twin.substr(0, 2) / twin.substr(2) / "data");
  for (const char* command : {"path", "rm", "verify"}) {
    const RunResult result = tool("cache", {command, key.substr(0, 4)});
    EXPECT_EQ(result.code, 3) << command;
    EXPECT_THAT(result.err, HasSubstr("2 objects"));
    EXPECT_THAT(result.err, HasSubstr(key));
    EXPECT_THAT(result.err, HasSubstr(twin));
  }
  EXPECT_THAT(tool("cache", {"ls"}).err, HasSubstr("1 more cannot be read"));
  EXPECT_EQ(tool("cache", {"path", twin}).code, 3);
  EXPECT_EQ(output("cache", {"gc"}), twin);  // what is damaged always goes
  EXPECT_EQ(cache_content().size(), 1u);
}

TEST_F(CacheTool, WhyNamesTheFieldsThatDiffer) {
  const std::string key = make({"--method", "gptq", "--samples", "2", "--length", "64"});
  const auto why = [&](const Words& more) {
    Words words = {"why", "--model", gpt2_, "--method", "gptq", "--samples", "2", "--length", "64"};
    words.insert(words.end(), more.begin(), more.end());
    return json("cache", words);
  };
  const auto fields = [&](const Json& json) {
    Words names;
    for (const Json& one : json["differences"]) names.push_back(one["field"]);
    return names;
  };
  const Json same = why({});
  EXPECT_EQ(same["cached"], true);
  EXPECT_EQ(same["key"], key);
  EXPECT_EQ(same["path"], output("cache", {"path", key}));
  const Json bits = why({"--bits", "3"});
  EXPECT_EQ(bits["cached"], false);
  EXPECT_EQ(bits["nearest"], key);
  EXPECT_EQ(fields(bits), Words{"settings.bits"});
  EXPECT_EQ(bits["differences"][0]["stored"], 4);
  EXPECT_EQ(bits["differences"][0]["wanted"], 3);
  EXPECT_EQ(fields(why({"--seed", "1"})), Words{"calibration"});
  const Path other = copy_demo("gpt2");
  write("model_gpt2/generation_config.json", "{}");
  Words words = {"why",       "--model", other.string(), "--method", "gptq",
                 "--samples", "2",       "--length",     "64"};
  EXPECT_EQ(fields(json("cache", words)), Words{"companions"});
  const std::string text =
      output("cache", {"why", "--model", gpt2_, "--samples", "2", "--length", "64", "--bits", "3"});
  EXPECT_THAT(text, HasSubstr("not cached; the nearest object is " + key.substr(0, 10)));
  EXPECT_THAT(text, HasSubstr("settings.bits  4       3       parameter of the method"));
  EXPECT_EQ(cache_content().size(), 1u);
}

TEST_F(CacheTool, VerifyFindsOneDamagedByte) {
  const std::string good = make({"--method", "nf4"});
  const std::string bad = make({"--method", "int8"});
  EXPECT_EQ(lines(output("cache", {"verify"})).size(), 2u);
  damage(bad);
  const RunResult result = tool("cache", {"verify"});
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.out, HasSubstr(good + "  ok"));
  EXPECT_THAT(result.out, HasSubstr(bad + "  damaged: "));
  EXPECT_THAT(result.err, HasSubstr(bad));
  EXPECT_THAT(result.err, HasSubstr("model.safetensors"));
  EXPECT_EQ(tool("cache", {"verify", good.substr(0, 8)}).code, 0);
  const RunResult one = tool("cache", {"verify", bad, "--json"});
  EXPECT_EQ(one.code, 4);
  EXPECT_EQ(parse_json(one.out, "row")["ok"], false);
  EXPECT_EQ(cache_content().size(), 2u);  // reported, left in place
}

TEST_F(CacheTool, RemoveAndItsDryRun) {
  const std::string first = make({"--method", "nf4"});
  const std::string second = make({"--method", "int8"});
  // All prefixes are looked at before anything goes.
  EXPECT_EQ(tool("cache", {"rm", first, "zebra"}).code, 3);
  EXPECT_EQ(output("cache", {"rm", first, "--dry-run"}), first);
  EXPECT_EQ(cache_content().size(), 2u);
  EXPECT_EQ(output("cache", {"rm", first.substr(0, 12)}), first);
  const Json rest = json("cache", {"rm", "newest"});
  EXPECT_EQ(rest["removed"], Json({second}));
  EXPECT_GT(rest["bytes_removed"].get<int64_t>(), 4'000'000);
  EXPECT_EQ(cache_content(), Words());
}

TEST_F(CacheTool, GcByBytesAndAge) {
  const std::string first = make({"--method", "nf4"});
  const std::string second = make({"--method", "int8"});
  EXPECT_EQ(output("cache", {"gc", "--max-bytes", "1GB", "--max-age", "1d"}), "");
  EXPECT_EQ(lines(output("cache", {"gc", "--max-age", "0s", "-n"})).size(), 2u);
  EXPECT_EQ(json("cache", {"gc", "--max-bytes", "0", "--dry-run"})["dry_run"], true);
  EXPECT_EQ(cache_content().size(), 2u);
  EXPECT_EQ(lines(output("cache", {"gc", "--max-bytes", "8MB"})).size(), 1u);  // about 5 MB each
  EXPECT_EQ(cache_content().size(), 1u);
  EXPECT_EQ(lines(output("cache", {"gc", "--max-age", "0s"})).size(), 1u);
  EXPECT_EQ(cache_content(), Words());
}

}  // namespace
}  // namespace qwb::testing
