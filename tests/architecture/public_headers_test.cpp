// The public headers, which CMakeLists.txt lists one by one (qwb_library PUBLIC): whoever has them
// installed can compile them, for they include no header that stays in the tree.
// tests/install/install_test.sh compiles each of them alone.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/architecture/include_helper.h"

namespace qwb {
namespace {

std::set<std::string> public_headers() {
  std::set<std::string> headers;
  std::istringstream text(QWB_PUBLIC_HEADERS);
  for (std::string header; std::getline(text, header, ',');) headers.insert(header);
  return headers;
}

// What a header of this text includes that is not installed with it.
std::vector<std::string> internal_includes(const std::string& text,
                                           const std::set<std::string>& installed) {
  std::vector<std::string> internal;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::string target = quoted_include(line);
    if (!target.empty() && !installed.contains(target)) internal.push_back(target);
  }
  return internal;
}

TEST(PublicHeaders, ARuleThatFindsInternalIncludes) {
  const std::string text =
      "#include <map>\n#include \"lib/a/b.h\"\n#  include \"lib/a/c.h\"\n// lib/a/d.h\n";
  EXPECT_EQ(internal_includes(text, {"lib/a/b.h"}), std::vector<std::string>{"lib/a/c.h"});
  EXPECT_TRUE(internal_includes(text, {"lib/a/b.h", "lib/a/c.h"}).empty());
}

TEST(PublicHeaders, IncludeEachOtherOnly) {
  const std::set<std::string> headers = public_headers();
  EXPECT_TRUE(headers.contains("formats/registry.h"));
  for (const std::string& header : headers) {
    std::ifstream file(std::filesystem::path(QWB_SOURCE_DIR) / header);
    ASSERT_TRUE(file.is_open()) << header;
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    for (const std::string& target : internal_includes(text, headers))
      ADD_FAILURE() << header << " is public and includes " << target << ", which is not";
  }
}

// A header more is a promise more: a name that programs outside of this tree use.
TEST(PublicHeaders, AreFew) {
  EXPECT_LE(public_headers().size(), 68u);
}

}  // namespace
}  // namespace qwb
