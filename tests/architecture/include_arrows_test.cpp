// Uses point one way (lib/README.md), files lie in the folders that the plan names, and
// nothing else lies at the top. The rules are tried on a small bad tree first, so that a pass on
// the real one means something.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/architecture/include_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

// Every folder of code, and the folders that it may use besides itself (CMakeLists.txt); what those
// may use, it may use too.
std::map<std::string, Names> read_arrows() {
  std::map<std::string, Names> all;
  std::istringstream text(QWB_ARROWS);
  for (std::string arrow; std::getline(text, arrow, ',');) {
    const size_t colon = arrow.find(':');
    std::istringstream used(arrow.substr(colon + 1));
    Names& names = all[arrow.substr(0, colon)];
    for (std::string name; used >> name;) names.insert(name);
  }
  return all;
}

const std::map<std::string, Names>& arrows() {
  static const std::map<std::string, Names> all = read_arrows();
  return all;
}

void collect_reachable(const std::string& folder, Names& into) {
  if (!into.insert(folder).second) return;
  for (const std::string& next : arrows().at(folder)) collect_reachable(next, into);
}

// "lib/evaluate/energy/nvml.h" -> "lib/evaluate", "lib/base/text.h" -> "tools"; empty: in none of
// the fixed folders.
std::string folder_of(const std::string& path) {
  for (const auto& [folder, uses] : arrows()) {
    if (path.starts_with(folder + "/")) return folder;
  }
  return {};
}

bool is_code(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".cpp" || extension == ".h" || extension == ".inc" || extension == ".cu" ||
         extension == ".cuh";
}

// lib/quantize hands whatever is made of activations to an Executor; the processor's own files
// serve it for weights, which lie in the host's memory.
bool goes_round_the_executor(const std::string& folder, const std::string& target) {
  static const Names for_weights = {"dequantize.h", "linear.h", "rounding.h", "simd.h",
                                    "tile_panels.h"};
  const std::string cpu = "lib/exec/cpu/";
  return folder == "lib/quantize" && target.starts_with(cpu) &&
         !for_weights.contains(target.substr(cpu.size()));
}

void check_file(const fs::path& root, const std::string& path, std::vector<std::string>& faults) {
  const std::string folder = folder_of(path);
  if (folder.empty()) {
    faults.push_back(path + ": not in one of the fixed folders");
    return;
  }
  Names allowed;
  collect_reachable(folder, allowed);
  std::ifstream file(root / path);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::string target = quoted_include(line);
    if (target.empty()) continue;
    const std::string place = path + ":" + std::to_string(number) + ": ";
    const std::string used = folder_of(target);
    if (used.empty()) {
      faults.push_back(place + "\"" + target + "\" is not written from the root of the sources");
    } else if (!allowed.contains(used)) {
      faults.push_back(place + folder + " must not use " + used + " (" + target + ")");
    } else if (goes_round_the_executor(folder, target)) {
      faults.push_back(place + target + " is for the processor's operations only");
    }
  }
}

bool may_lie_at_top(const std::string& name) {
  static const Names fixed = {"CMakeLists.txt", "README.md", "LICENSE", "tools", "lib",
                              "formats",        "tests",     "recipes", "cache"};
  return fixed.contains(name) || name.starts_with(".") || name.starts_with("build");
}

std::vector<std::string> faults_of(const fs::path& root) {
  std::vector<std::string> faults;
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename().string();
    if (!may_lie_at_top(name)) faults.push_back(name + ": nothing of that name belongs at the top");
    if (name.starts_with(".") || name.starts_with("build")) continue;
    if (!entry.is_directory()) {
      if (is_code(entry.path())) check_file(root, name, faults);
      continue;
    }
    for (const auto& file : fs::recursive_directory_iterator(entry.path())) {
      if (file.is_regular_file() && is_code(file.path()))
        check_file(root, fs::relative(file.path(), root).string(), faults);
    }
  }
  std::sort(faults.begin(), faults.end());
  return faults;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// A source tree of a few files that goes away with the test.
class Tree {
 public:
  Tree() : root_(fs::temp_directory_path() / ("qwb-arrows-" + std::to_string(getpid()))) {
    fs::create_directories(root_);
  }
  ~Tree() { fs::remove_all(root_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;
  void add(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  const fs::path& root() const { return root_; }

 private:
  fs::path root_;
};

TEST(SlowArrows, TheTreeObeys) {
  const std::vector<std::string> faults = faults_of(QWB_SOURCE_DIR);
  EXPECT_TRUE(faults.empty()) << joined(faults);
}

TEST(SlowArrows, EveryForbiddenUseIsSeen) {
  const std::vector<std::pair<std::string, std::string>> forbidden = {
      {"lib/base/a.h", "lib/tensor/b.h"},
      {"lib/codec/a.h", "lib/exec/b.h"},
      {"lib/exec/cpu/a.cpp", "lib/model/b.h"},
      {"lib/exec/cpu/a.cpp", "lib/tokenizer/b.h"},
      {"lib/tokenizer/a.cpp", "lib/chat/b.h"},
      {"lib/model/a.cpp", "lib/chat/b.h"},
      {"lib/model/a.cpp", "formats/b.h"},
      {"lib/model/a.cpp", "lib/quantize/b.h"},
      {"lib/quantize/a.cpp", "formats/b.h"},
      {"formats/a.cpp", "lib/quantize/b.h"},
      {"formats/a.cpp", "cache/b.h"},
      {"cache/a.cpp", "formats/b.h"},
      {"lib/hub/a.cpp", "formats/b.h"},
      {"lib/hub/a.cpp", "lib/tensor/b.h"},
      {"lib/evaluate/energy/a.cpp", "cache/b.h"},
      {"lib/evaluate/a.cpp", "tools/common/b.h"},
      {"lib/evaluate/a.cpp", "lib/report/b.h"},
      {"lib/report/a.cpp", "cache/b.h"},
      {"lib/report/a.cpp", "lib/jobs/b.h"},
      {"lib/evaluate/a.cpp", "lib/jobs/b.h"},
      {"cache/a.cpp", "lib/jobs/b.h"},
      {"lib/jobs/a.cpp", "tools/common/b.h"},
      {"tools/common/a.cpp", "tests/tools/b.h"}};
  for (const auto& [user, used] : forbidden) {
    const Tree tree;
    tree.add(user, "#include <string>\n  #  include \"" + used + "\"\n");
    const std::vector<std::string> faults = faults_of(tree.root());
    ASSERT_EQ(faults.size(), 1u) << user << " -> " << used << "\n" << joined(faults);
    EXPECT_TRUE(faults[0].starts_with(user + ":2: ")) << faults[0];
  }
}

TEST(SlowArrows, AllowedUsesPass) {
  const Tree tree;
  tree.add("lib/evaluate/energy/a.cpp",
           "#include \"lib/evaluate/b.h\"\n#include \"formats/qwb/artifact.h\"\n// #include "
           "\"tools/no.h\"\n");
  tree.add("lib/jobs/a.cpp", "#include \"lib/report/b.h\"\n#include \"lib/hub/c.h\"\n");
  tree.add("tools/qwb_x.cpp", "#include \"cache/store.h\"\n#include \"lib/base/error.h\"\n");
  tree.add("tests/x/x_test.cpp",
           "#include \"tests/y/helper.h\"\n#include \"tools/common/text.h\"\n");
  tree.add("build-x/CMakeFiles/id.cpp", "#include \"anything.h\"\n");
  EXPECT_EQ(joined(faults_of(tree.root())), "");
}

TEST(SlowArrows, CalibrationGoesThroughTheExecutor) {
  const Tree tree;
  tree.add("lib/quantize/a.cpp",
           "#include \"lib/exec/cpu/matmul.h\"\n#include \"lib/exec/cpu/rounding.h\"\n");
  tree.add("lib/exec/cpu/b.cpp", "#include \"lib/exec/cpu/matmul.h\"\n");
  EXPECT_EQ(joined(faults_of(tree.root())),
            "lib/quantize/a.cpp:1: lib/exec/cpu/matmul.h is for the processor's operations only\n");
}

TEST(SlowArrows, StrayFilesAndRelativeIncludesAreSeen) {
  const Tree tree;
  tree.add("src/a.cpp", "");
  tree.add("notes.txt", "");
  tree.add("lib/stray/a.cpp", "");
  tree.add("lib/base/a.cpp", "#include \"error.h\"\n");
  EXPECT_EQ(faults_of(tree.root()).size(), 5u)
      << joined(faults_of(tree.root()));  // src twice: at the top, and its file
}

}  // namespace
}  // namespace qwb
