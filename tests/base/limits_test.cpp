// What control groups allow, in made-up trees of both versions.
#include <gtest/gtest.h>
#include <unistd.h>

#include <climits>
#include <cstdint>
#include <fstream>

#include "lib/base/control_groups.h"
#include "lib/base/memory.h"

namespace qwb {
namespace {

namespace fs = std::filesystem;

class Limits : public ::testing::Test {
 protected:
  Limits() {
    std::string name = (fs::temp_directory_path() / "qwb-limits-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
    put("proc/meminfo", "MemTotal: 99 kB\nMemAvailable:   8000000 kB\n");
  }
  ~Limits() override { fs::remove_all(root_); }
  void put(const std::string& name, const std::string& text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text << "\n";
  }
  // A group of version 2 with nothing limited.
  void unified(const std::string& folder) const {
    put(folder + "/memory.max", "max");
    put(folder + "/memory.current", "50000000");
    put(folder + "/memory.stat", "anon 1\ninactive_file 1000000\nfile 3");
    put(folder + "/cpu.max", "max 100000");
  }
  int64_t memory() const { return available_memory(root_); }
  int processors() const { return processors_in_groups(control_groups(root_)); }
  Path root_;
};

TEST_F(Limits, NothingLimitedOrNothingThere) {
  EXPECT_EQ(memory(), 8'000'000LL * 1024);
  EXPECT_EQ(processors(), INT_MAX);
  unified("sys/fs/cgroup/pod/ctr");
  put("proc/self/cgroup", "0::/pod/ctr");
  EXPECT_EQ(memory(), 8'000'000LL * 1024);
  EXPECT_EQ(processors(), INT_MAX);
  fs::remove_all(root_ / "proc");
  EXPECT_GT(memory(), 0);  // masked: what the system tells is free
  EXPECT_LT(memory(), INT64_MAX);
}

TEST_F(Limits, EveryAncestorOfVersionTwo) {
  for (const char* group : {"sys/fs/cgroup/pod", "sys/fs/cgroup/pod/ctr"}) unified(group);
  put("proc/self/cgroup", "0::/pod/ctr");
  put("sys/fs/cgroup/pod/memory.max", "60000000");
  EXPECT_EQ(memory(), 11'000'000);
  put("sys/fs/cgroup/pod/ctr/memory.high", "52000000");
  EXPECT_EQ(memory(), 3'000'000);
  put("sys/fs/cgroup/pod/cpu.max", "150000 100000");
  EXPECT_EQ(processors(), 2);
  put("sys/fs/cgroup/pod/ctr/cpu.max", "5000 100000");
  EXPECT_EQ(processors(), 1);
}

TEST_F(Limits, CpusetsOfBothVersions) {
  unified("sys/fs/cgroup/pod");
  put("proc/self/cgroup", "0::/pod");
  put("sys/fs/cgroup/pod/cpuset.cpus.effective", "0-2,8,10-11");
  EXPECT_EQ(processors(), 6);
  put("sys/fs/cgroup/pod/cpuset.cpus.effective", "");
  EXPECT_EQ(processors(), INT_MAX);
  put("proc/self/cgroup", "3:cpuset:/a\n0::/");
  put("sys/fs/cgroup/cpuset/a/cpuset.cpus", "3");
  EXPECT_EQ(processors(), 1);
}

TEST_F(Limits, VersionOneInTheGroupsOwnFolder) {
  for (const std::string group : {"", "/pod", "/pod/ctr"}) {
    put("sys/fs/cgroup/memory" + group + "/memory.limit_in_bytes", "9223372036854771712");
    put("sys/fs/cgroup/memory" + group + "/memory.usage_in_bytes", "50000000");
    put("sys/fs/cgroup/memory" + group + "/memory.stat",
        "inactive_file 1\ntotal_inactive_file 2000000");
    put("sys/fs/cgroup/cpu" + group + "/cpu.cfs_quota_us", "-1");
    put("sys/fs/cgroup/cpu" + group + "/cpu.cfs_period_us", "100000");
  }
  put("proc/self/cgroup", "4:memory:/pod/ctr\n1:cpu,cpuacct:/pod/ctr");
  EXPECT_EQ(memory(), 8'000'000LL * 1024);
  put("sys/fs/cgroup/memory/pod/ctr/memory.limit_in_bytes", "60000000");
  EXPECT_EQ(memory(), 12'000'000);
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "51000000");
  EXPECT_EQ(memory(), 3'000'000);
  put("sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us", "300000");
  EXPECT_EQ(processors(), 3);
}

TEST_F(Limits, MountsSayWhere) {
  // Inside a container without a namespace of its own: the path is the host's, the mount shows a
  // part of it.
  put("proc/self/cgroup", "7:memory:/docker/abc/sub\n2:cpu,cpuacct:/docker/abc\n0::/");
  put("proc/self/mountinfo",
      "30 29 0:26 /docker/abc /groups/my\\040memory rw,nosuid - cgroup cgroup rw,memory\n"
      "31 29 0:27 /docker/abc /groups/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
      "32 29 0:28 / /groups/hybrid rw shared:4 - cgroup2 cgroup2 rw");
  put("groups/my memory/sub/memory.limit_in_bytes", "70000000");
  put("groups/my memory/sub/memory.usage_in_bytes", "60000000");
  EXPECT_EQ(memory(), 10'000'000);
  put("groups/cpu/cpu.cfs_quota_us", "100000");
  put("groups/cpu/cpu.cfs_period_us", "50000");
  EXPECT_EQ(processors(), 2);
  put("groups/hybrid/memory.max", "5000000");
  put("groups/hybrid/memory.current", "9000000");
  EXPECT_EQ(memory(), 0);  // over its limit already
  // A group outside of the namespace: only its root can be seen.
  put("proc/self/cgroup", "0::/../other");
  EXPECT_EQ(memory(), 0);
}

}  // namespace
}  // namespace qwb
