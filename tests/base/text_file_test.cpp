#include "lib/base/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "lib/base/error.h"
#include "lib/base/names.h"

namespace qwb {
namespace {

using namespace std::string_literals;

std::string refusal_of(const std::string& bytes, ErrorKind kind) {
  try {
    checked_text(bytes, "file");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "taken";
}

TEST(TextFile, TakesUtf8AsItIs) {
  for (const std::string& text :
       {""s, "a"s, "line\r\nline\r"s, "\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x98\x80"s, "PARs"s,
        "PK is no archive"s, "BZh is a name"s, "{\"a\": 1}\n"s, "\x1b[1mbold\x1b[0m\n"s,
        "GIF is a format"s})
    EXPECT_EQ(checked_text(text, "file"), text);
  EXPECT_EQ(checked_text("\xef\xbb\xbf"s + "text", "file"), "text");
  EXPECT_EQ(checked_text("\xef\xbb\xbf", "file"), "");
}

TEST(TextFile, TellsThePlaceOfTheFirstBadByte) {
  EXPECT_THAT(refusal_of("abc\nd\xe9 f", ErrorKind::failed),
              testing::HasSubstr("byte 5 (0xE9, in line 2)"));
  EXPECT_THAT(refusal_of("abc\xe4\xbd", ErrorKind::failed),
              testing::HasSubstr("byte 3 (0xE4, in line 1)"));
  for (const char* bad : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80", "a\xff"})
    EXPECT_THAT(refusal_of(bad, ErrorKind::failed), testing::HasSubstr("not UTF-8")) << bad;
}

TEST(TextFile, RefusesOtherKindsByName) {
  const std::pair<std::string, const char*> kCases[] = {
      {"\xff\xfeh\0i\0"s, "UTF-16"},
      {"\xfe\xff\0h\0i"s, "UTF-16"},
      {"h\0e\0l\0l\0o\0"s, "UTF-16 text without its mark"},
      {"\0h\0e\0l\0l\0o"s, "UTF-16 text without its mark"},
      {"h\0e\0l\0l\0o\0"s, "iconv -f UTF-16LE"},
      {"\0h\0e\0l\0l\0o"s, "iconv -f UTF-16BE"},
      {"h\0\0\0i\0\0\0"s, "iconv -f UTF-32LE"},
      {"\0\0\0h\0\0\0i"s, "iconv -f UTF-32BE"},
      {"\xff\xfe\0\0h\0\0\0"s, "UTF-32"},
      {"\0\0\xfe\xff\0\0\0h"s, "UTF-32"},
      {"\x1f\x8b\x08\0\0\0"s, "gzip"},
      {"PK\x03\x04rest"s, "zip"},
      {"PAR1rest"s, "parquet"},
      {"GGUF\x03\0\0\0"s, "GGUF"},
      {"%PDF-1.7\n"s, "PDF"},
      {"\x89PNG\r\n\x1a\n"s, "PNG"},
      {"\x28\xb5\x2f\xfd\x04"s, "zstd"},
      {"\xfd"
       "7zXZ\0\0"s,
       "xz"},
      {"\x0c\0\0\0\0\0\0\0{\"a\":[1,23]}"s, "safetensors"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:12\n"s, "Git LFS pointer"},
      {std::string(300, '\x01'), "binary"}};
  for (const auto& [bytes, name] : kCases)
    EXPECT_THAT(refusal_of(bytes, ErrorKind::unsupported), testing::HasSubstr(name));
}

TEST(TextFile, SuffixesInAnyCase) {
  EXPECT_TRUE(is_json_lines("a/B.JSONL"));
  EXPECT_TRUE(is_json_lines("b.jsonl"));
  EXPECT_TRUE(is_json_lines("b.NdJson"));
  EXPECT_TRUE(is_json_lines("b.jsonlines"));
  EXPECT_TRUE(is_json_lines("b.jl"));
  EXPECT_FALSE(is_json_lines("b.TXT"));
  EXPECT_FALSE(is_json_lines("jsonl"));
  EXPECT_THROW(is_json_lines("b.Json"), Error);
  EXPECT_TRUE(has_suffix("x.QWBcalib", ".qwbcalib"));
}

// What a portal answers instead of a text.
TEST(TextFile, PagesAreRefusedUnlessTheNameSaysHtml) {
  const Path folder = Path(testing::TempDir()) / ("qwb_page_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  for (const char* name : {"a.txt", "a.jsonl", "a.html", "a.HTM"})
    std::ofstream(folder / name) << "\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n";
  for (const char* name : {"a.txt", "a.jsonl"})
    EXPECT_THROW(read_text_file(folder / name, 1 << 20), Error) << name;
  for (const char* name : {"a.html", "a.HTM"})
    EXPECT_FALSE(read_text_file(folder / name, 1 << 20).empty()) << name;
  std::filesystem::remove_all(folder);
}

TEST(TextFile, ZeroBytesAndTablesAreRefusedByName) {
  const auto refused = [](auto read, const std::string& part) {
    try {
      read();
      ADD_FAILURE() << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  const std::string text(5000, 'a');
  refused([&] { checked_text(text + "\n" + std::string(1, '\0') + "b", "file"); },
          "zero byte in line 2");
  refused([&] { checked_text(std::string(1, '\0') + text, "file"); }, "zero byte in line 1");
  for (const char* name : {"a.csv", "a.CSV", "a.tsv"})
    refused([&] { is_json_lines(name); }, "is a table");
  EXPECT_FALSE(is_json_lines("a.csv.txt"));
}

}  // namespace
}  // namespace qwb
