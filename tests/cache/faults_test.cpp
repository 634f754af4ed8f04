// What goes wrong on real machines: killed processes, two at once, hanging ones, full disks,
// read-only folders. Everything runs without root; with root the full disk and the read-only folder
// are real mounts as well.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>

#include "cache/store.h"
#include "lib/base/parallel.h"
#include "lib/base/process_policy.h"
#include "lib/base/rng.h"
#include "tests/formats/files_helper.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;
using std::chrono::microseconds;
using std::chrono::milliseconds;

Key numbered_key(int number = 0) {
  return {{{"source", "faults"}, {"number", number}}};
}

// 1 MB in four files whose bytes follow from the seed.
std::string content(uint64_t seed) {
  Rng rng(seed);
  std::string text(1 << 18, '\0');
  for (size_t i = 0; i + 8 <= text.size(); i += 8) store(text.data() + i, rng.next());
  return text;
}
void fill_megabyte(const Path& folder) {
  for (uint64_t part = 0; part < 4; ++part) {
    OutputFile file = OutputFile::create(folder / std::to_string(part), 1 << 18);
    file.write(0, as_bytes(content(part)));
    file.finish();
  }
}

// The threads of the parent do not exist in its children, and OpenMP would wait for them.
const Context kOneThread{Threads(1)};

// Runs in a child process; its exit code is what `body` returns, 99 for an exception.
pid_t in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int code = 99;
  try {
    code = body();
  } catch (const std::exception& error) {
    ::fprintf(stderr, "child: %s\n", error.what());
  }
  ::_exit(code);
}
int wait_for(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int64_t files_below(const Path& folder) {
  int64_t count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    count += entry.is_directory() ? 0 : 1;
  return count;
}

// 200 builders die at random instants. After each the cache must serve the right bytes or nothing;
// at the end it holds one object and nothing else.
TEST(SlowFaults, KillAtAnyInstant) {
  TemporaryFolder folder;
  const Path root = folder.path() / "cache";
  Rng rng(9);
  int hits = 0;
  int killed = 0;
  for (int round = 0; round < 200; ++round) {
    const pid_t child = in_child([&] {
      Store({root, 60, kOneThread}).build(numbered_key(), fill_megabyte);
      return 0;
    });
    // A build takes some milliseconds, more on a busy machine.
    std::this_thread::sleep_for(microseconds(rng.below(round % 2 == 0 ? 6'000 : 30'000)));
    ::kill(child, SIGKILL);
    killed += wait_for(child) == 128 + SIGKILL ? 1 : 0;
    const Store store({root, 60, kOneThread});
    if (const auto object = store.find(numbered_key())) {
      ++hits;
      for (uint64_t part = 0; part < 4; ++part)
        ASSERT_EQ(read_text(object->data / std::to_string(part)), content(part));
    }
    if (hits > 0 && round % 4 == 0 && fs::exists(root / "objects")) {
      // Removed with its lease free, so that later rounds also die while building.
      EXPECT_EQ(store.gc(0).in_use, 0);
    }
  }
  EXPECT_GT(killed, 20) << "the delays never hit a working child";
  const Store store({root, 60, kOneThread});
  const auto object = store.build(numbered_key(), fill_megabyte);
  EXPECT_LE(files_below(root), 4 + 3) << "left behind by the dead";
  for (const auto& entry : fs::recursive_directory_iterator(root))
    EXPECT_FALSE(is_temporary_name(entry.path().filename().string()));
  ::testing::Test::RecordProperty("killed", killed);
  ::testing::Test::RecordProperty("hits", hits);
}

// A process that dies while it writes a memo.
TEST(Faults, MemosOfTheDeadAreRemoved) {
  TemporaryFolder folder;
  const Store store({folder.path(), 60});
  fs::create_directory(store.memo_folder());
  EXPECT_EQ(wait_for(in_child([&] {
              write(temporary_sibling(store.memo_folder() / "memo.json"), "half");
              return 0;
            })),
            0);
  EXPECT_EQ(files_below(store.memo_folder()), 1);
  EXPECT_EQ(files_below(Store({folder.path(), 60}).memo_folder()), 0);
}

// The second waits, says so, and takes the result of the first: one fill in all.
TEST(Faults, TwoProcessesOneBuild) {
  TemporaryFolder folder;
  const Path root = folder.path() / "cache";
  const Path log = folder.path() / "fills";
  const auto work = [&](int wait_ms) {
    return in_child([&, wait_ms] {
      std::this_thread::sleep_for(milliseconds(wait_ms));
      bool told = false;
      const auto object = Store({root, 60, kOneThread})
                              .build(
                                  numbered_key(),
                                  [&](const Path& data) {
                                    const int fd =
                                        ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
                                    if (::write(fd, "x", 1) != 1)
                                      throw Error(ErrorKind::failed, "log");
                                    ::close(fd);
                                    std::this_thread::sleep_for(milliseconds(500));
                                    fill_megabyte(data);
                                  },
                                  "", [&](const std::string&) { told = true; });
      if (read_text(object.data / "3") != content(3)) return 1;
      return told ? 7 : 0;
    });
  };
  const pid_t first = work(0);
  const pid_t second = work(150);
  EXPECT_EQ(wait_for(first), 0);
  EXPECT_EQ(wait_for(second), 7);
  EXPECT_EQ(read_text(log), "x");
}

// Both build at the same time although the lock is of no use: each has its own folder, one object
// results.
TEST(Faults, TwoProcessesWithoutLocks) {
  TemporaryFolder folder;
  const Path root = folder.path() / "cache";
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(in_child([&, i] {
      const auto object =
          Store({root, 60, kOneThread}).build(numbered_key(), [&](const Path& data) {
            fs::remove(root / "locks" / numbered_key().hex());  // as if it had never been
            std::this_thread::sleep_for(milliseconds(100 + 20 * i));
            fill_megabyte(data);
          });
      return read_text(object.data / "2") == content(2) ? 0 : 1;
    }));
    std::this_thread::sleep_for(milliseconds(20));
  }
  for (const pid_t child : children) EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(Store({root, 60, kOneThread}).list().size(), 1u);
  EXPECT_LE(files_below(root), 4 + 3);
}

TEST(Faults, DeadBuilderIsNotWaitedFor) {
  TemporaryFolder folder;
  const Path root = folder.path() / "cache";
  const pid_t child = in_child([&] {
    Store({root, 60, kOneThread}).build(numbered_key(), [](const Path&) { ::pause(); });
    return 0;
  });
  std::this_thread::sleep_for(milliseconds(300));
  ASSERT_TRUE(fs::exists(root / "locks" / numbered_key().hex()));
  ::kill(child, SIGKILL);
  wait_for(child);
  EXPECT_NO_THROW(Store({root, 600}).build(numbered_key(), fill_megabyte));
}

// A stopped process keeps its lock but its heart no longer beats.
TEST(Faults, HangingBuilderIsWaitedForOnlyAWhile) {
  TemporaryFolder folder;
  const Path root = folder.path() / "cache";
  const pid_t child = in_child([&] {
    Store({root, 60, kOneThread}).build(numbered_key(), [](const Path&) { ::pause(); });
    return 0;
  });
  std::this_thread::sleep_for(milliseconds(300));
  ::kill(child, SIGSTOP);
  std::string told;
  const auto object =
      Store({root, 1.5}).build(numbered_key(), fill_megabyte, "", [&](const std::string& text) {
        told += text;
      });
  EXPECT_NE(told.find("no sign of life"), std::string::npos);
  EXPECT_EQ(read_text(object.data / "0"), content(0));
  ::kill(child, SIGKILL);
  wait_for(child);
}

// A builder that works is waited for beyond any patience.
TEST(Faults, WorkingBuilderIsWaitedFor) {
  TemporaryFolder folder;
  const Path root = folder.path() / "cache";
  const pid_t child = in_child([&] {
    Store({root, 60, kOneThread}).build(numbered_key(), [](const Path& data) {
      std::this_thread::sleep_for(milliseconds(3500));
      fill_megabyte(data);
    });
    return 0;
  });
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_NO_THROW(
      Store({root, 2}).build(numbered_key(), [](const Path&) { ADD_FAILURE() << "built twice"; }));
  EXPECT_EQ(wait_for(child), 0);
}

TEST(Faults, FolderThatIsAFile) {
  TemporaryFolder folder;
  write(folder.path() / "cache", "not a folder");
  const Store store({folder.path() / "cache", 60});
  EXPECT_FALSE(store.find(numbered_key()).has_value());
  EXPECT_TRUE(store.list().empty());
  expect_error(ErrorKind::failed, "QWB_CACHE", [&] { store.build(numbered_key(), fill_megabyte); });
}

// Root in a mount namespace of its own; otherwise the test is skipped.
int with_mounts(const std::function<int()>& body) {
  return wait_for(in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      return 77;
    return body();
  }));
}

TEST(Faults, ReadOnlyCacheStillServes) {
  TemporaryFolder folder;
  const Path root = folder.path() / "cache";
  Store({root, 60, kOneThread}).build(numbered_key(), fill_megabyte);
  const auto body = [&] {
    const Store store({root, 60, kOneThread});
    if (!store.find(numbered_key())) return 1;
    if (!store.find(numbered_key())) return 2;
    try {
      store.build(numbered_key(2), fill_megabyte);
      return 3;
    } catch (const Error& error) {
      return std::string(error.what()).find("QWB_CACHE") != std::string::npos ? 0 : 4;
    }
  };
  int code = 77;
  if (::geteuid() == 0) {
    code = with_mounts([&] {
      if (::mount(root.c_str(), root.c_str(), nullptr, MS_BIND, nullptr) != 0) return 77;
      if (::mount(nullptr, root.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0)
        return 77;
      return body();
    });
  } else {
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      if (entry.is_directory())
        fs::permissions(entry.path(), fs::perms::owner_read | fs::perms::owner_exec);
    }
    fs::permissions(root, fs::perms::owner_read | fs::perms::owner_exec);
    code = wait_for(in_child(body));
    fs::permissions(root, fs::perms::owner_all);
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      if (entry.is_directory()) fs::permissions(entry.path(), fs::perms::owner_all);
    }
  }
  if (code == 77) GTEST_SKIP() << "no private mounts here";
  EXPECT_EQ(code, 0);
}

int expect_no_room(const Path& root) {
  const Store store({root, 60, kOneThread});
  try {
    store.build(numbered_key(), fill_megabyte);
    return 1;
  } catch (const Error& error) {
    if (std::string(error.what()).find("reserve") == std::string::npos) return 2;
  }
  if (store.find(numbered_key())) return 3;
  return files_below(root) == 0 ? 0 : 4;
}

TEST(Faults, FullDiskLeavesNothing) {
  TemporaryFolder folder;
  const Path root = folder.path() / "cache";
  fs::create_directory(root);
  const int code = with_mounts([&] {
    if (::mount("tmpfs", root.c_str(), "tmpfs", 0, "size=600k") != 0) return 77;
    return expect_no_room(root);
  });
  if (code == 77) GTEST_SKIP() << "no private mounts here";
  EXPECT_EQ(code, 0);
}

TEST(Faults, FileSizeLimitLeavesNothing) {
  TemporaryFolder folder;
  const int code = wait_for(in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    return expect_no_room(folder.path() / "cache");
  }));
  EXPECT_EQ(code, 0);
}

// Without descriptors nothing can be read; that makes nothing damaged, and what is removed goes
// whole.
TEST(SlowFaults, FewDescriptorsCostNoObject) {
  const TemporaryFolder folder;
  const Store store({.root = folder.path(), .context = kOneThread});
  const CacheObject object = store.build(numbered_key(), fill_megabyte);
  for (const int free : {0, 1, 2}) {
    const pid_t child = in_child([&] {
      keep_spare_descriptors();
      const int next = ::dup(0);
      const rlimit limit{static_cast<rlim_t>(next + free), static_cast<rlim_t>(next + free)};
      ::close(next);
      ::setrlimit(RLIMIT_NOFILE, &limit);
      try {
        store.find(numbered_key());
      } catch (const Error&) {
      }
      try {
        store.gc(int64_t{1} << 40, 1 << 30, false);
      } catch (const Error&) {
      }
      return 0;
    });
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(store.find(numbered_key())) << free;
  }
  const pid_t child = in_child([&] {
    keep_spare_descriptors();
    const int next = ::dup(0);
    const rlimit limit{static_cast<rlim_t>(next), static_cast<rlim_t>(next)};
    ::close(next);
    ::setrlimit(RLIMIT_NOFILE, &limit);
    remove_tree(object.data.parent_path());
    return fs::exists(object.data.parent_path()) ? 1 : 0;
  });
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace qwb
