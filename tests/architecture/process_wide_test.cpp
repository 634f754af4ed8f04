// What belongs to a whole process (lib/base/process_policy.h) is used by no library: only the frame
// of the tools decides on it, in one file. The rule is tried on bad lines first.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

namespace qwb {
namespace {

namespace fs = std::filesystem;

// Where each word may stand; a call, an assignment or an include of it anywhere else is a fault.
struct ProcessWideWord {
  const char* pattern;
  std::vector<std::string> places;
};

const std::vector<ProcessWideWord>& process_wide_words() {
  static const std::string policy = "lib/base/process_policy.", frame = "tools/common/tool.";
  static const std::vector<ProcessWideWord> words = {
      {"process_policy\\.h\"", {policy, "lib/base/temporaries.cpp", frame}},
      {"\\b(mallopt|malloc_trim|execv\\w*|setenv|putenv|unsetenv) *\\(", {policy}},
      {"\\b(sigaction|signal|sigaltstack) *\\(", {policy, "lib/base/interrupt.cpp"}},
      {"\\b(setrlimit|setlocale|chdir|umask|atexit) *\\(", {}},
      {"\\b(adopt_process_policy|interrupt_token|interrupt_on_signals) *\\(",
       {policy, "lib/base/interrupt.", frame}},
      {"\\b(let_sigint_only_interrupt|forget_sigint) *\\(", {"lib/base/interrupt.", frame}},
      {"\\breuse_large_buffers *\\(", {policy, frame, "tools/qwb_"}},
  };
  return words;
}

std::vector<std::string> process_wide_faults(const std::string& path, const std::string& text) {
  std::vector<std::string> faults;
  for (const ProcessWideWord& word : process_wide_words()) {
    const bool allowed = std::any_of(word.places.begin(), word.places.end(),
                                     [&](const std::string& at) { return path.starts_with(at); });
    if (!allowed && std::regex_search(text, std::regex(word.pattern)))
      faults.push_back(path + ": " + word.pattern);
  }
  return faults;
}

TEST(ProcessWide, UsesOutsideOfTheFrameAreSeen) {
  for (const char* line :
       {"#include \"lib/base/process_policy.h\"", "  ::malloc_trim(0);", "mallopt(M_TRIM, 1);",
        "if (::setenv(\"A\", \"b\", 1) == 0)", "umask(077);", "context.stop = interrupt_token();",
        "reuse_large_buffers();", "forget_sigint();", "sigaction(SIGINT, &a, nullptr);"})
    EXPECT_EQ(process_wide_faults("lib/jobs/quantize_job.cpp", line).size(), 1u) << line;
  EXPECT_TRUE(process_wide_faults("lib/base/process_policy.cpp", "::malloc_trim(0);").empty());
  EXPECT_TRUE(process_wide_faults("lib/jobs/a.cpp", "memory_phase_ended();").empty());
}

TEST(ProcessWide, NoLibraryDecidesForTheProcess) {
  const fs::path root = QWB_SOURCE_DIR;
  int files = 0;
  for (const char* folder : {"lib", "formats", "cache", "tools"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".cpp" && extension != ".h") continue;
      std::ifstream file(entry.path());
      const std::string text((std::istreambuf_iterator<char>(file)), {});
      for (const std::string& fault :
           process_wide_faults(fs::relative(entry.path(), root).string(), text))
        ADD_FAILURE() << fault;
      ++files;
    }
  }
  EXPECT_GT(files, 300);
}

}  // namespace
}  // namespace qwb
