// Offsets beyond 4 GiB, in files that are mostly holes: what is read and where it is written, at
// little cost in time and disk.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "formats/gguf/file.h"
#include "formats/hf/checkpoint.h"
#include "formats/safetensors/sharded_writer.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHole = (int64_t{9} << 30) / 2;  // bytes, 4.5 GiB
const std::string kLast = "the end of a large file has 32 b";

// Bytes of a file, read without the code that is tested.
std::string bytes_at(const Path& path, int64_t offset, size_t size) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text(size, '\0');
  EXPECT_EQ(::pread(file, text.data(), size, offset), static_cast<ssize_t>(size));
  ::close(file);
  return text;
}

void put_at(const Path& path, int64_t offset, const std::string& text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  EXPECT_EQ(::pwrite(file, text.data(), text.size(), offset), static_cast<ssize_t>(text.size()));
  ::close(file);
}

std::string header_of(const std::string& json) {
  std::string text(8, '\0');
  store(reinterpret_cast<std::byte*>(text.data()), static_cast<uint64_t>(json.size()));
  return text + json;
}

// Writers reserve their bytes: on a disk that is a note in its tables, in a file system in memory
// it is memory.
bool can_reserve(const Path& folder) {
  struct statfs system {};
  constexpr long kTmpfs = 0x01021994;
  return ::statfs(folder.c_str(), &system) == 0 && system.f_type != kTmpfs &&
         free_disk_space(folder) > 2 * kHole;
}

TEST(Large, ShardsAreReadBeyondFourGigabytes) {
  const TemporaryFolder folder;
  write(folder.path() / "config.json", R"({"model_type": "llama"})");
  const std::string end = std::to_string(kHole), past = std::to_string(kHole + 32);
  const auto shard = [&](const std::string& file, const std::string& hole,
                         const std::string& last) {
    const std::string header = header_of("{\"" + hole + "\":{\"dtype\":\"U8\",\"shape\":[" + end +
                                         "],\"data_offsets\":[0," + end + "]},\"" + last +
                                         "\":{\"dtype\":\"U8\",\"shape\":[32],\"data_offsets\":[" +
                                         end + "," + past + "]}}");
    put_at(folder.path() / file, 0, header);
    put_at(folder.path() / file, static_cast<int64_t>(header.size()) + kHole, kLast);
  };
  shard("model-00001-of-00002.safetensors", "a.hole", "a.last");
  shard("model-00002-of-00002.safetensors", "b.hole", "b.last");
  write(folder.path() / "model.safetensors.index.json",
        R"({"metadata": {"total_size": )" + std::to_string(2 * (kHole + 32)) + R"(}, "weight_map": {
        "a.hole": "model-00001-of-00002.safetensors", "a.last": "model-00001-of-00002.safetensors",
        "b.hole": "model-00002-of-00002.safetensors", "b.last": "model-00002-of-00002.safetensors"}})");
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_GT(checkpoint->weight_bytes(), 2 * (kHole + 32));  // and the headers
  EXPECT_LT(checkpoint->weight_bytes(), 2 * (kHole + 1024));
  for (const std::string name : {"a", "b"}) {
    EXPECT_EQ(as_text(checkpoint->find(name + ".last")->bytes), kLast);
    const TensorView hole = *checkpoint->find(name + ".hole");
    EXPECT_EQ(hole.count(), kHole);
    EXPECT_EQ(hole.bytes.back(), std::byte{0});
  }
}

TEST(Large, ShardsAreWrittenBeyondFourGigabytes) {
  const TemporaryFolder folder;
  if (!can_reserve(folder.path())) GTEST_SKIP() << "no disk with 9 GiB free";
  ShardedWriter writer(
      folder.path(),
      {{"a.hole", DType::u8, {kHole}}, {"a.last", DType::u8, {32}}, {"b.only", DType::u8, {32}}},
      kHole + 40);
  EXPECT_EQ(writer.files(), 2u);
  EXPECT_EQ(writer.tensor_bytes(), kHole + 64);
  writer.put_part("a.hole", kHole - 32, as_bytes(kLast));
  writer.put("a.last", as_bytes(kLast));
  writer.put("b.only", as_bytes(kLast));
  const Path first = folder.path() / "model-00001-of-00002.safetensors";
  const auto size = static_cast<int64_t>(fs::file_size(first));
  EXPECT_GT(size, kHole + 32);
  EXPECT_EQ(bytes_at(first, size - 64, 64), kLast + kLast);
  EXPECT_EQ(bytes_at(first, size - 96, 32), std::string(32, '\0'));
  // The header, read by itself, places the tensors there.
  const SafetensorsFile file = SafetensorsFile::open(first);
  EXPECT_EQ(as_text(file.find("a.last")->bytes), kLast);
  EXPECT_EQ(as_text(file.find("a.hole")->bytes.last(32)), kLast);
  // Most of the hole was never written.
  expect_error(ErrorKind::usage, "a.hole", [&] { writer.finish(); });
}

TEST(Large, GgufIsWrittenBeyondFourGigabytes) {
  const TemporaryFolder folder;
  if (!can_reserve(folder.path())) GTEST_SKIP() << "no disk with 9 GiB free";
  const Path path = folder.path() / "large.gguf";
  GgufWriter writer(
      path, {},
      {{"hole", {kHole / 4096, 1024}, GgmlType::f32, 0, 0}, {"last", {8}, GgmlType::f32, 0, 0}});
  EXPECT_EQ(writer.tensors()[1].begin, kHole);
  writer.put(0, kHole - 32, as_bytes(kLast));
  writer.put(1, 0, as_bytes(kLast));
  EXPECT_EQ(bytes_at(path, writer.file_size() - 64, 64), kLast + kLast);
  const GgufFile file = GgufFile::open(path);
  EXPECT_EQ(as_text(file.bytes(*file.find("last"))), kLast);
  expect_error(ErrorKind::usage, "'hole'", [&] { writer.finish(); });
}

}  // namespace
}  // namespace qwb
