// The real tools in a scratch folder with a cache of its own.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/base/json.h"
#include "tests/evaluate/artifact_helper.h"
#include "tests/tools/run_helper.h"

namespace qwb::testing {

class ToolTest : public ::testing::Test {
 protected:
  ToolTest() : scratch_("tool") {}
  // "quantize" runs qwb-quantize. Unless `options` says otherwise: cache() and no $QWB_MODEL.
  RunResult tool(const std::string& name, std::vector<std::string> arguments,
                 RunOptions options = {}) const;
  // The tool's standard output without the final newline; the exit code must be 0.
  std::string output(const std::string& name, const std::vector<std::string>& arguments,
                     const RunOptions& options = {}) const;
  // The same, parsed (--json is added).
  Json json(const std::string& name, std::vector<std::string> arguments,
            const RunOptions& options = {}) const;

  Path cache() const { return scratch_.path() / "cache"; }
  Path file(const std::string& name) const { return scratch_.path() / name; }
  std::string write(const std::string& name, const std::string& text) const;
  // A copy of a demo model in the scratch folder.
  Path copy_demo(const std::string& name) const;
  // Everything below cache() except the memo folder and locks, which may stay: objects and
  // temporaries.
  std::vector<std::string> cache_content() const;

  Scratch scratch_;
  const std::string gpt2_ = demo("gpt2").string();
  const std::string llama_ = demo("llama").string();
};

}  // namespace qwb::testing
