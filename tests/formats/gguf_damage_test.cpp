// Damaged and hostile GGUF files: refused with an error that names the place, without reading
// outside of the file or taking memory for counts that it cannot hold.
#include <gtest/gtest.h>

#include "formats/gguf/file.h"
#include "tests/formats/files_helper.h"
#include "tests/formats/gguf_file_helper.h"

namespace qwb {
namespace {

GgufHeader parse_gguf(const std::string& bytes) {
  return parse_gguf_header(as_bytes(bytes), "test.gguf");
}
void expect_damaged(const RawGguf& file, const std::string& part) {
  expect_error(ErrorKind::failed, part, [&] { parse_gguf(file.bytes()); });
}

// Two tensors and keys of every shape.
RawGguf valid() {
  RawGguf file;
  file.head(2, 4).u32_key("general.alignment", 64);
  file.text("a.text").put<uint32_t>(8).text("gr\xc3\xbc\xc3\x9f");
  file.text("a.flags").put<uint32_t>(9).put<uint32_t>(7).put<uint64_t>(2).raw(
      std::string("\x00\x01", 2));
  file.text("a.words").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(2).text("x").text("");
  file.tensor("first.weight", 32, 2, 2, 0).tensor("second.weight", 3, 5, 0, 64);
  return file.pad(64).zeros(64 + 64);
}

TEST(GgufDamage, ValidFileIsRead) {
  const GgufHeader header = parse_gguf(valid().bytes());
  EXPECT_EQ(header.alignment, 64);
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].shape, (Shape{2, 32}));
  EXPECT_EQ(header.tensors[0].bytes, 36);
  EXPECT_EQ(header.tensors[1].begin, 64);
  EXPECT_EQ(header.tensors[1].bytes, 60);
  EXPECT_EQ(header.metadata.find("a.flags")->integer("", 1), 1);
  EXPECT_EQ(header.metadata.find("a.words")->strings, (std::vector<std::string>{"x", ""}));
}

// Every shorter file is refused, whatever field the cut goes through; but for the padding after the
// last tensor.
TEST(GgufDamage, TruncatedAnywhere) {
  const std::string whole = valid().bytes();
  const size_t least = whole.size() - 4;
  for (size_t size = 0; size < least; ++size)
    EXPECT_THROW(parse_gguf(whole.substr(0, size)), Error) << "cut at " << size;
  EXPECT_NO_THROW(parse_gguf(whole.substr(0, least)));
  expect_error(ErrorKind::failed, "after the end",
               [&] { parse_gguf(whole + std::string(64, 'x')); });
}

// A file with every byte changed in turn is read or refused, never more.
TEST(GgufDamage, AnyByteChanged) {
  const std::string whole = valid().bytes();
  for (size_t at = 0; at + 128 < whole.size(); ++at) {
    for (const char mask : {'\x01', '\x80', '\xff'}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ mask);
      try {
        parse_gguf(changed);
      } catch (const Error&) {
        continue;
      }
    }
  }
}

TEST(GgufDamage, LyingCounts) {
  for (const int64_t count : {int64_t{1} << 60, int64_t{-1}, INT64_MAX, INT64_MIN, int64_t{1000}}) {
    expect_damaged(RawGguf().head(count, 0).zeros(64), "number of tensors");
    expect_damaged(RawGguf().head(0, count).zeros(64), "number of keys");
    expect_damaged(RawGguf().head(0, 1).put(count).zeros(64), "a key");
    expect_damaged(RawGguf().head(0, 1).text("k").put<uint32_t>(8).put(count).zeros(64),
                   "a string");
    for (const uint32_t kind : {0u, 4u, 8u, 12u})
      expect_damaged(RawGguf().head(0, 1).text("k").put<uint32_t>(9).put(kind).put(count).zeros(64),
                     "array");
    expect_damaged(RawGguf().head(1, 0).put(count).zeros(64), "tensor's name");
  }
}

TEST(GgufDamage, Keys) {
  expect_damaged(RawGguf().head(0, 2).u32_key("k", 1).u32_key("k", 2).zeros(32), "appears twice");
  expect_damaged(RawGguf().head(0, 1).u32_key("", 1).zeros(32), "empty key");
  expect_damaged(RawGguf().head(0, 1).text("k").put<uint32_t>(13).zeros(32), "type 13");
  expect_damaged(RawGguf().head(0, 1).text("k").put<uint32_t>(7).put<uint8_t>(2).zeros(32),
                 "boolean");
  expect_damaged(
      RawGguf().head(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(9).put<uint64_t>(1).zeros(32),
      "array of arrays");
  for (const uint32_t alignment : {0u, 3u, 48u, 1u << 31})
    expect_damaged(RawGguf().head(0, 1).u32_key("general.alignment", alignment).zeros(32),
                   "general.alignment");
  expect_damaged(
      RawGguf().head(0, 1).text("general.alignment").put<uint32_t>(8).text("32").zeros(32),
      "not a u32");
}

TEST(GgufDamage, Tensors) {
  const auto one = [](int64_t row, int64_t rows, uint32_t type, int64_t offset,
                      const std::string& name = "t") {
    return RawGguf().head(1, 0).tensor(name, row, rows, type, offset).pad().zeros(4096);
  };
  expect_damaged(one(32, 2, 2, 32), "not at 0");
  expect_damaged(one(32, 2, 2, -32), "not at 0");
  expect_damaged(one(33, 2, 2, 0), "whole blocks");
  expect_damaged(one(-1, 2, 0, 0), "overflow");
  expect_damaged(one(int64_t{1} << 40, int64_t{1} << 40, 0, 0), "overflow");
  expect_damaged(one(int64_t{1} << 62, 1, 0, 0), "overflow");
  expect_damaged(one(int64_t{1} << 33, 1, 0, 0), "the file has");
  expect_damaged(one(32, 1, 43, 0), "type 43");
  expect_damaged(one(32, 1, 0, 0, std::string(64, 'n')), "tensor's name");
  expect_damaged(one(32, 1, 0, 0, ""), "without a name");
  expect_error(ErrorKind::unsupported, "IQ2_XXS", [&] { parse_gguf(one(256, 1, 16, 0).bytes()); });
  expect_damaged(RawGguf().head(1, 0).text("t").put<uint32_t>(5).zeros(128), "5 dimensions");
  expect_damaged(
      RawGguf().head(2, 0).tensor("t", 8, 1, 0, 0).tensor("t", 8, 1, 0, 32).pad().zeros(64),
      "appears twice");
  // Tensors that lie on each other, or leave a hole.
  expect_damaged(
      RawGguf().head(2, 0).tensor("t", 8, 1, 0, 0).tensor("u", 8, 1, 0, 0).pad().zeros(64),
      "not at 32");
  expect_damaged(
      RawGguf().head(2, 0).tensor("t", 8, 1, 0, 0).tensor("u", 8, 1, 0, 64).pad().zeros(128),
      "not at 32");
}

TEST(GgufDamage, Versions) {
  for (const uint32_t version : {0u, 1u, 4u})
    expect_error(ErrorKind::unsupported, "version",
                 [&] { parse_gguf(RawGguf().head(0, 0, version).zeros(32).bytes()); });
  expect_error(ErrorKind::unsupported, "big-endian",
               [&] { parse_gguf(RawGguf().head(0, 0, 3u << 24).zeros(32).bytes()); });
  expect_error(ErrorKind::failed, "does not begin",
               [&] { parse_gguf("GGUX" + std::string(60, '\0')); });
  EXPECT_NO_THROW(parse_gguf(RawGguf().head(0, 0, 2).bytes()));
}

std::string split(int64_t number, int64_t count, int64_t tensors, const std::string& name) {
  RawGguf file;
  file.head(1, 3).text("split.no").put<uint32_t>(2).put(static_cast<uint16_t>(number));
  file.text("split.count").put<uint32_t>(2).put(static_cast<uint16_t>(count));
  file.text("split.tensors.count").put<uint32_t>(5).put(static_cast<int32_t>(tensors));
  return file.tensor(name, 8, 1, 0, 0)
      .pad()
      .raw(std::string(32, static_cast<char>('a' + number)))
      .bytes();
}

TEST(GgufSplits, AreOneModel) {
  const TemporaryFolder folder;
  const Path first = folder.path() / "m-00001-of-00002.gguf",
             second = folder.path() / "m-00002-of-00002.gguf";
  write(first, split(0, 2, 2, "one"));
  expect_error(ErrorKind::not_found, "m-00002-of-00002.gguf is missing",
               [&] { GgufFile::open(first); });
  write(second, split(1, 2, 2, "two"));
  for (const Path& path : {first, second}) {
    const GgufFile file = GgufFile::open(path);
    EXPECT_EQ(file.tensor_names(), (std::vector<std::string>{"one", "two"}));
    EXPECT_EQ(as_text(file.bytes(*file.find("two"))), std::string(32, 'b'));
  }
  EXPECT_EQ(gguf_in_folder(folder.path()), first);
  write(second, split(1, 2, 2, "one"));
  expect_error(ErrorKind::failed, "in two splits", [&] { GgufFile::open(first); });
  write(second, split(0, 2, 2, "two"));
  expect_error(ErrorKind::failed, "not the split", [&] { GgufFile::open(first); });
  write(second, split(1, 2, 3, "two"));
  write(first, split(0, 2, 3, "one"));
  expect_error(ErrorKind::failed, "another number of tensors", [&] { GgufFile::open(first); });
  std::filesystem::rename(first, folder.path() / "renamed.gguf");
  expect_error(ErrorKind::unsupported, "one of 2 splits",
               [&] { GgufFile::open(folder.path() / "renamed.gguf"); });
  expect_error(ErrorKind::usage, "renamed.gguf", [&] { gguf_in_folder(folder.path()); });
}

// Offsets beyond 4 GiB, in a file whose first tensor is a hole.
TEST(GgufLarge, OffsetsBeyondFourGigabytes) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "large.gguf";
  const int64_t rows = (int64_t{9} << 30) / 2 / 4096, first = rows * 4096;  // 4.5 GiB
  RawGguf file;
  file.head(2, 0).tensor("hole", 1024, rows, 0, 0).tensor("last", 8, 1, 0, first).pad();
  write(path, file.bytes());
  const auto begin = static_cast<int64_t>(file.bytes().size());
  std::filesystem::resize_file(path, static_cast<uintmax_t>(begin + first + 32));
  std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekp(begin + first);
  stream << std::string(32, 'z');
  stream.close();
  const GgufFile large = GgufFile::open(path);
  EXPECT_EQ(large.find("last")->begin, first);
  EXPECT_EQ(as_text(large.bytes(*large.find("last"))), std::string(32, 'z'));
}

TEST(GgufWriter, RefusesWhatGgufCannotHold) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "w.gguf";
  const auto writer = [&](std::vector<GgufTensor> tensors) {
    GgufWriter(path, {}, std::move(tensors));
  };
  expect_error(ErrorKind::usage, "whole blocks", [&] {
    writer({{"t", {2, 33}, GgmlType::q8_0, 0, 0}});
  });
  expect_error(ErrorKind::usage, "name", [&] {
    writer({{std::string(64, 'n'), {2}, GgmlType::f32, 0, 0}});
  });
  expect_error(ErrorKind::usage, "name", [&] {
    writer({{"t", {2}, GgmlType::f32, 0, 0}, {"t", {2}, GgmlType::f32, 0, 0}});
  });
  expect_error(ErrorKind::usage, "dimensions", [&] {
    writer({{"t", {1, 1, 1, 1, 1}, GgmlType::f32, 0, 0}});
  });
}

TEST(GgufWriter, IsReadBack) {
  const TemporaryFolder folder;
  const Path path = folder.path() / "w.gguf";
  GgufMetadata metadata;
  metadata.add("a.number", GgufValue::of_u32(7));
  metadata.add("a.words", GgufValue::of_strings({"", "x y"}));
  metadata.add("a.scores", GgufValue::of_floats({1.5f, -2}));
  {
    GgufWriter writer(path, metadata,
                      {{"a", {3, 32}, GgmlType::q4_0, 0, 0}, {"b", {5}, GgmlType::f32, 0, 0}});
    const std::string a(54, 'a'), b(20, 'b');
    writer.put(1, 0, as_bytes(b));
    writer.put(0, 30, as_bytes(a).subspan(30));
    expect_error(ErrorKind::usage, "'a'", [&] { writer.finish(); });
    expect_error(ErrorKind::usage, "beyond", [&] { writer.put(0, 30, as_bytes(a)); });
    writer.put(0, 0, as_bytes(a).first(30));
    writer.finish();
  }
  const GgufFile file = GgufFile::open(path);
  EXPECT_EQ(file.metadata().integer("a.number", ""), 7);
  EXPECT_EQ(file.metadata().find("a.words")->strings, (std::vector<std::string>{"", "x y"}));
  EXPECT_EQ(file.metadata().find("a.scores")->number("", 1), -2);
  EXPECT_EQ(as_text(file.bytes(*file.find("a"))), std::string(54, 'a'));
  EXPECT_EQ(as_text(file.bytes(*file.find("b"))), std::string(20, 'b'));
  {
    const GgufWriter abandoned(folder.path() / "x.gguf", metadata,
                               {{"a", {32}, GgmlType::q4_0, 0, 0}});
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "x.gguf"));
}

}  // namespace
}  // namespace qwb
