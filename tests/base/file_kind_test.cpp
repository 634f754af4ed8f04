// What a file is by its first bytes.
#include "lib/base/file_kind.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "lib/base/error.h"
#include "lib/base/file.h"

namespace qwb {
namespace {

std::string kind_of(std::string_view content) {
  const auto kind = foreign_kind(as_bytes(content));
  return kind ? kind->what : "";
}

TEST(FileKind, KnownKinds) {
  EXPECT_EQ(kind_of("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
            "is a Git LFS pointer, not the file itself (which has 12 bytes)");
  EXPECT_NE(kind_of("\xef\xbb\xbf \n<!doctype HTML>").find("HTML"), std::string::npos);
  EXPECT_NE(kind_of("").find("empty"), std::string::npos);
  EXPECT_NE(kind_of("Invalid username or password.").find("Hub"), std::string::npos);
  EXPECT_NE(kind_of("404: Not Found").find("server"), std::string::npos);
  for (const char* text : {"{\"a\": 1}", "[1]", "version 2", "plain text", "html"})
    EXPECT_EQ(kind_of(text), "");
}

// A header of 640 bytes begins as a pickle does: the safetensors reader must not be misled.
TEST(FileKind, TextsOfEveryNameMayBePointers) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / "qwb-file-kind-test.txt";
  std::ofstream(file) << "version https://git-lfs.github.com/spec/v1\noid sha256:00\n";
  EXPECT_THROW(read_text(file), Error);
  std::ofstream(file, std::ios::trunc) << "version of a story";
  EXPECT_EQ(read_text(file), "version of a story");
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace qwb
