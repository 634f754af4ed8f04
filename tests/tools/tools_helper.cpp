#include "tests/tools/tools_helper.h"

#include <fstream>

#include "lib/base/file.h"

namespace qwb::testing {
namespace fs = std::filesystem;

RunResult ToolTest::tool(const std::string& name, std::vector<std::string> arguments,
                         RunOptions options) const {
  options.environment.try_emplace("QWB_CACHE", cache().string());
  options.environment.try_emplace("HF_HUB_OFFLINE", "1");
  for (const char* variable : {"QWB_MODEL", "QWB_THREADS", "NO_COLOR", "QWB_DATA"})
    options.environment.try_emplace(variable, "");
  arguments.insert(arguments.begin(), QWB_BIN_DIR "/qwb-" + name);
  return run(arguments, options);
}

std::string ToolTest::output(const std::string& name, const std::vector<std::string>& arguments,
                             const RunOptions& options) const {
  RunResult result = tool(name, arguments, options);
  EXPECT_EQ(result.code, 0) << result.err;
  if (!result.out.empty() && result.out.back() == '\n') result.out.pop_back();
  return result.out;
}

Json ToolTest::json(const std::string& name, std::vector<std::string> arguments,
                    const RunOptions& options) const {
  arguments.emplace_back("--json");
  const std::string text = output(name, arguments, options);
  return text.empty() ? Json() : parse_json(text, name);
}

std::string ToolTest::write(const std::string& name, const std::string& text) const {
  std::ofstream(file(name), std::ios::binary) << text;
  return file(name).string();
}

Path ToolTest::copy_demo(const std::string& name) const {
  const Path target = file("model_" + name);
  fs::remove_all(target);
  fs::copy(demo(name), target, fs::copy_options::recursive);
  return target;
}

std::vector<std::string> ToolTest::cache_content() const {
  std::vector<std::string> names;
  if (!fs::exists(cache() / "objects")) return names;
  for (const auto& head : fs::directory_iterator(cache() / "objects")) {
    for (const auto& object : fs::directory_iterator(head.path()))
      names.push_back(object.path().string());
  }
  return names;
}

}  // namespace qwb::testing
