// qwb-serve as a user starts and stops it; tests/serve asks it things.
#include <gmock/gmock.h>

#include <csignal>

#include "tests/tools/tools_helper.h"

namespace qwb::testing {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class Serve : public ToolTest {};

TEST_F(Serve, ADryRunTellsMemory) {
  const Json told = json("serve", {"one=" + llama_, gpt2_, "--dry-run", "--context", "256"});
  EXPECT_EQ(told["models"][0]["name"], "one");
  EXPECT_EQ(told["models"][1]["name"], "gpt2");
  EXPECT_EQ(told["models"][1]["context"], 256);
  EXPECT_GT(told["kv_bytes"], told["models"][0]["kv_bytes_of_context"]);
  const Json little = json("serve", {llama_, "-n", "--kv-memory", "10M", "--slots", "2"});
  EXPECT_EQ(little["models"][0]["context"], 512);  // of 8192 bytes a token, for both slots
}

TEST_F(Serve, TellsWhereItListensAndEndsOnASignal) {
  RunOptions options;
  options.signals = {SIGTERM};
  options.ready = "ready on http://127.0.0.1:";
  const RunResult result = tool("serve", {gpt2_, "--port", "0", "--json"}, options);
  EXPECT_EQ(result.code, 0) << result.err;
  const Json ready = parse_json(result.out, "ready");
  EXPECT_GT(ready["port"], 0);
  EXPECT_EQ(ready["models"], Json({"gpt2"}));
}

TEST_F(Serve, WhatMakesNoSenseIsRefused) {
  const auto refused = [&](const Words& words, int code) {
    const RunResult result = tool("serve", words);
    EXPECT_EQ(result.code, code) << result.err;
    return result.err;
  };
  EXPECT_THAT(refused({gpt2_, "--host", "0.0.0.0"}, 2), HasSubstr("--api-key-file"));
  EXPECT_THAT(refused({gpt2_, "--context", "513"}, 2), HasSubstr("513"));
  EXPECT_THAT(refused({gpt2_, gpt2_}, 2), HasSubstr("NAME=MODEL"));
  EXPECT_THAT(refused({gpt2_, "--kv-memory", "1k"}, 2), HasSubstr("--kv-memory"));
  EXPECT_THAT(refused({gpt2_, "--host", "nowhere"}, 2), HasSubstr("--host"));
  EXPECT_THAT(refused({gpt2_, "--api-key-file", write("empty", "\n")}, 2), HasSubstr("no key"));
  refused({gpt2_, "--allow-host", "a/b"}, 2);
  refused({"=" + gpt2_}, 2);
  refused({"/nonexistent"}, 3);
  refused({gpt2_, "--temperature", "-1"}, 2);
  EXPECT_THAT(refused({gpt2_, "--base", "other", "--idle", "0"}, 2), HasSubstr("--base other"));
  refused({gpt2_, "--no-energy", "--watts", "5"}, 2);
  EXPECT_THAT(refused({gpt2_, "-n", "--adapter", "other=x"}, 2), HasSubstr("is called other"));
  refused({"a=" + gpt2_, "-n", "--adapter", "a=/nonexistent:0.5"}, 3);
  EXPECT_THAT(refused({gpt2_, "--report", write("no_page", "{}")}, 2), HasSubstr("--report"));
}

}  // namespace
}  // namespace qwb::testing
