// The store: hits, misses, explanations, damage, eviction, many processes. Faults are in
// faults_test.cpp.
#include "cache/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

Key key(int bits, const std::string& source = "abc") {
  return {
      {{"source", source}, {"method", "rtn"}, {"settings", {{"bits", bits}, {"group_size", 64}}}}};
}

class StoreTest : public testing::Test {
 protected:
  CacheObject build(const Key& k, const std::string& content = "content") {
    return store_.build(k, [&](const Path& folder) {
      ++fills_;
      write(folder / "a", content);
      fs::create_directory(folder / "sub");
      write(folder / "sub" / "b", content + content);
    });
  }
  Path object_of(const Key& k) const {
    return store_.root() / "objects" / k.hex().substr(0, 2) / k.hex().substr(2);
  }
  // Makes a file look as if it had been written long ago, so that its verification counts.
  static void settle() { std::this_thread::sleep_for(std::chrono::milliseconds(2100)); }

  TemporaryFolder folder_;
  Store store_{Store::Options{folder_.path() / "cache", 60}};
  int fills_ = 0;
};

TEST(CacheKey, DependsOnFieldsNotOnTheirOrder) {
  EXPECT_EQ(key(4).hex().size(), 32u);
  EXPECT_EQ(key(4).hex(), key(4).hex());
  EXPECT_NE(key(4).hex(), key(3).hex());
  EXPECT_NE(key(4).hex(), key(4, "abd").hex());
  const Key turned{
      {{"settings", {{"group_size", 64}, {"bits", 4}}}, {"method", "rtn"}, {"source", "abc"}}};
  EXPECT_EQ(key(4).hex(), turned.hex());
}

TEST(CacheRoot, FollowsTheEnvironment) {
  const auto with = [](const char* cache, const char* xdg, const char* home) {
    for (const auto& [name, value] :
         {std::pair{"QWB_CACHE", cache}, {"XDG_CACHE_HOME", xdg}, {"HOME", home}}) {
      value == nullptr ? ::unsetenv(name) : ::setenv(name, value, 1);
    }
    return default_cache_root().string();
  };
  const std::string home = ::getenv("HOME") == nullptr ? "" : ::getenv("HOME");
  EXPECT_EQ(with("/c", "/x", "/h"), "/c");
  EXPECT_EQ(with(nullptr, "/x", "/h"), "/x/qwb");
  EXPECT_EQ(with("", "relative", "/h"), "/h/.cache/qwb");
  expect_error(ErrorKind::usage, "QWB_CACHE", [&] { with(nullptr, nullptr, nullptr); });
  ::setenv("HOME", home.c_str(), 1);
}

TEST_F(StoreTest, SecondRequestIsAHit) {
  EXPECT_FALSE(store_.find(key(4)).has_value());
  EXPECT_FALSE(fs::exists(store_.root())) << "looking creates nothing";
  const CacheObject first = build(key(4));
  EXPECT_EQ(read_text(first.data / "sub/b"), "contentcontent");
  const CacheObject second = build(key(4), "other");
  EXPECT_EQ(fills_, 1);
  EXPECT_EQ(read_text(second.data / "a"), "content");
  EXPECT_EQ(second.hex, key(4).hex());
  EXPECT_TRUE(store_.find(key(4)).has_value());
  build(key(3));
  EXPECT_EQ(fills_, 2);
  EXPECT_TRUE(fs::is_empty(store_.root() / "locks"));
}

TEST_F(StoreTest, FailedFillLeavesNothing) {
  EXPECT_THROW(store_.build(key(4),
                            [](const Path& folder) {
                              write(folder / "a", "half");
                              throw Error(ErrorKind::interrupted, "interrupted");
                            }),
               Error);
  EXPECT_FALSE(store_.find(key(4)).has_value());
  for (const auto& entry : fs::recursive_directory_iterator(store_.root()))
    EXPECT_TRUE(entry.is_directory()) << entry.path();
  EXPECT_EQ(read_text(build(key(4)).data / "a"), "content");
  expect_error(ErrorKind::failed, "neither a file nor a folder", [&] {
    store_.build(key(5), [](const Path& folder) { fs::create_symlink("/etc", folder / "link"); });
  });
}

// Whatever byte of whatever file is damaged, the object is rebuilt and the damaged bytes are never
// seen.
TEST_F(StoreTest, OneFlippedByteIsAMiss) {
  const Path object = object_of(key(4));
  for (const char* name : {"data/a", "data/sub/b", "object.json"}) {
    build(key(4));
    const auto size = fs::file_size(object / name);
    for (uint64_t at = 0; at < size; at += std::max<uint64_t>(1, size / 60)) {
      build(key(4));
      const auto before = fs::last_write_time(object / name);
      flip_byte(object / name, at);
      fs::last_write_time(object / name, before);  // times can lie, too
      const int fills = fills_;
      EXPECT_FALSE(store_.find(key(4)).has_value()) << name << " " << at;
      EXPECT_FALSE(fs::exists(object));
      EXPECT_EQ(read_text(build(key(4)).data / "a"), "content");
      EXPECT_EQ(fills_, fills + 1);
    }
  }
}

TEST_F(StoreTest, OtherDamageIsAMiss) {
  const Path object = object_of(key(4));
  const std::function<void()> damages[] = {
      [&] { fs::remove(object / "data/a"); },
      [&] { fs::remove_all(object / "data"); },
      [&] { fs::remove(object / "object.json"); },
      [&] { write(object / "data/extra", "x"); },
      [&] { write(object / "data/a", "content+"); },
      [&] { write(object / "object.json", "{}"); },
      [&] { write(object / "object.json", "[]"); },
      [&] { fs::resize_file(object / "data/sub/b", 0); },
      [&] { fs::remove(object / "data/a"), fs::create_symlink("sub/b", object / "data/a"); },
      [&] {
        build(key(3), "third"), fs::remove(object / "object.json"),
            fs::copy(object_of(key(3)) / "object.json", object);
      },
  };
  for (const auto& damage : damages) {
    build(key(4));
    damage();
    EXPECT_FALSE(store_.find(key(4)).has_value());
    EXPECT_EQ(read_text(build(key(4)).data / "a"), "content");
  }
}

// A verification is remembered for this boot and these file times; a lie in the note shows whether
// it was used.
TEST_F(StoreTest, VerifiedOnceIsNotHashedAgainUntilTheFilesChange) {
  const Path object = object_of(key(4));
  build(key(4));
  EXPECT_TRUE(store_.find(key(4)).has_value());
  const auto young = read_text(object / "verified.json");
  EXPECT_TRUE(store_.find(key(4)).has_value());
  EXPECT_NE(read_text(object / "verified.json"), young)
      << "files that may change within a clock tick are hashed again";
  settle();
  EXPECT_TRUE(store_.find(key(4)).has_value());  // hashed, noted
  const auto noted = read_text(object / "verified.json");
  EXPECT_TRUE(store_.find(key(4)).has_value());
  EXPECT_EQ(read_text(object / "verified.json"), noted) << "not hashed again";
  Json other_boot = parse_json(noted, "");
  other_boot["boot"] = "another";
  write(object / "verified.json", other_boot.dump());
  EXPECT_TRUE(store_.find(key(4)).has_value());
  EXPECT_NE(read_text(object / "verified.json"), other_boot.dump()) << "hashed again after a boot";
  const auto time = fs::last_write_time(object / "data/a");
  write(object / "data/a", "CONTENT");
  fs::last_write_time(object / "data/a", time);
  EXPECT_FALSE(store_.find(key(4)).has_value()) << "the change time tells";
}

TEST_F(StoreTest, WhyNamesTheFields) {
  EXPECT_FALSE(store_.why(key(4)).has_value());
  build(key(4));
  build(key(8, "other"));
  const auto nearest = store_.why(key(3));
  ASSERT_TRUE(nearest.has_value());
  EXPECT_EQ(nearest->entry.hex, key(4).hex());
  ASSERT_EQ(nearest->differences.size(), 1u);
  EXPECT_EQ(nearest->differences[0].field, "settings.bits");
  EXPECT_EQ(nearest->differences[0].stored, 4);
  EXPECT_EQ(nearest->differences[0].wanted, 3);
  EXPECT_TRUE(store_.why(key(4))->differences.empty());
  Key more = key(4);
  more.fields["calibration"] = "c";
  EXPECT_EQ(store_.why(more)->differences.at(0).field, "calibration");
  EXPECT_TRUE(store_.why(more)->differences.at(0).stored.is_null());
}

TEST_F(StoreTest, ListVerifyRemove) {
  build(key(4));
  build(key(3));
  const auto entries = store_.list();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].bytes, 21);
  EXPECT_EQ(store_.newest()->created, entries[0].created);
  for (const auto& report : store_.verify()) EXPECT_EQ(report.problem, "");
  flip_byte(object_of(key(4)) / "data/a", 0);
  for (const auto& report : store_.verify())
    EXPECT_EQ(report.problem.empty(), report.hex != key(4).hex()) << report.problem;
  EXPECT_THAT(store_.verify(key(4).hex()).at(0).problem, testing::HasSubstr("other bytes"));
  EXPECT_TRUE(fs::exists(object_of(key(4)))) << "verify only reports";
  expect_error(ErrorKind::not_found, "no such object",
               [&] { store_.verify(std::string(32, '0')); });
  expect_error(ErrorKind::not_found, "no such object", [&] { store_.verify("../../etc"); });
  expect_error(ErrorKind::usage, "../", [&] { store_.remove("../"); });
  expect_error(ErrorKind::usage, "''", [&] { store_.remove(""); });
  expect_error(ErrorKind::not_found, "no object", [&] { store_.remove(std::string(32, '0')); });
  EXPECT_EQ(store_.remove(key(4).hex().substr(0, 12)).removed,
            std::vector<std::string>{key(4).hex()});
  EXPECT_EQ(store_.list().size(), 1u);
}

void set_used(const Path& object, int seconds_ago) {
  for (const char* name : {"used", "object.json"}) {
    fs::last_write_time(object / name,
                        fs::file_time_type::clock::now() - std::chrono::seconds(seconds_ago));
  }
}

TEST_F(StoreTest, GcRemovesTheLeastRecentlyUsedFirst) {
  for (int bits = 2; bits <= 5; ++bits) {
    build(key(bits));
    set_used(object_of(key(bits)), 1000 * bits);
  }
  EXPECT_TRUE(store_.find(key(5)).has_value());  // the oldest is used again
  GcReport report = store_.gc(42);
  EXPECT_EQ(report.removed, (std::vector<std::string>{key(4).hex(), key(3).hex()}));
  EXPECT_EQ(report.bytes_removed, 42);
  EXPECT_EQ(report.bytes_kept, 42);
  report = store_.gc(-1, 1500);
  EXPECT_EQ(report.removed, (std::vector<std::string>{key(2).hex()}));
  EXPECT_EQ(store_.list().size(), 1u);
  EXPECT_TRUE(store_.gc(-1).removed.empty());
}

TEST_F(StoreTest, GcLeavesWhatIsInUse) {
  std::optional<CacheObject> used = build(key(4));
  EXPECT_EQ(store_.gc(0).in_use, 1);
  EXPECT_EQ(store_.remove(key(4).hex()).in_use, 1);
  EXPECT_EQ(read_text(used->data / "a"), "content");
  used.reset();
  EXPECT_EQ(store_.gc(0).removed.size(), 1u);
  EXPECT_TRUE(store_.list().empty());
}

TEST_F(StoreTest, GcRemovesDamagedManifests) {
  build(key(4));
  write(object_of(key(4)) / "object.json", "{}");
  EXPECT_EQ(store_.gc(-1).removed.size(), 1u);
}

}  // namespace
}  // namespace qwb
