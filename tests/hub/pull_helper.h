// qwb-pull against the fake Hub, in a scratch folder of its own.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "tests/hub/fake_hub_helper.h"
#include "tests/tools/run_helper.h"

namespace qwb::testing {

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const Path& path() const { return path_; }

 private:
  Path path_;
};

using Words = std::vector<std::string>;
using Environment = std::map<std::string, std::string>;

class PullTest : public ::testing::Test {
 protected:
  PullTest() { start({}); }
  // Another Hub instead, with other settings, and without repositories.
  void start(FakeHub::Settings settings);

  // No proxy, no token, no home of anybody; short waits; a stall is a second.
  Environment environment() const;
  RunResult tool(const std::string& name, Words arguments, const Environment& more = {},
                 RunOptions options = {}) const;
  RunResult pull(const Words& arguments, const Environment& more = {}) const {
    return tool("pull", arguments, more);
  }
  // The tool's last line of stdout, which must be the existing snapshot; the exit code must be 0.
  Path pulled(const Words& arguments, const Environment& more = {}) const;

  // A small model: config, tokenizer, weights of `bytes` bytes as LFS, and files that no tool
  // needs.
  FakeRepo& add_model(const std::string& id = "org/model", size_t bytes = 300'000);

  Path home() const { return scratch_.path() / "hf"; }
  Path cache() const { return home() / "hub"; }
  Path repo(const std::string& folder = "models--org--model") const { return cache() / folder; }
  // Relative paths of files and links below a folder, sorted; without the lock files.
  static Words files(const Path& folder);
  // Every blob's name is its content's hash, every snapshot's link leads to a blob, nothing is left
  // half done.
  void expect_clean(const Path& repo, bool partials_allowed = false) const;
  // The wanted file in the snapshot has the server's content.
  static void expect_same(const Path& folder, const FakeRepo& repo, const std::string& path);

  TemporaryFolder scratch_;
  std::unique_ptr<FakeHub> hub_;
};

}  // namespace qwb::testing
