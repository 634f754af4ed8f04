// Limits that the control groups of this process set, versions 1 and 2. It does not matter whether
// the process sees its own folder, a parent's or only the root of a container. Every ancestor
// counts: a pod limits the parent of its containers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/file.h"

namespace qwb {

// The folders that may hold this process's limits, its own first, then every ancestor to the
// mount's root.
struct ControlGroups {
  std::vector<Path> unified;              // version 2
  std::vector<Path> memory, cpu, cpuset;  // version 1, by controller
};

// Reads /proc/self/cgroup and /proc/self/mountinfo below `root`, and the usual places in
// /sys/fs/cgroup. Leaves out folders that are missing or unreadable.
ControlGroups control_groups(const Path& root = "/");

// Bytes that the memory limits leave (page cache counts as free); INT64_MAX without a limit.
int64_t memory_in_groups(const ControlGroups& groups);
// Processors that quotas and cpusets leave, at least 1; INT_MAX without a limit. A part of one
// counts as one.
int processors_in_groups(const ControlGroups& groups);

}  // namespace qwb
