#include "lib/base/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace qwb {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

// The number in a file that holds one; kUnknown for "max", for none and without the file.
int64_t number_in(const std::string& file) {
  std::ifstream in(file);
  int64_t value = 0;
  return in >> value ? value : kUnknown;
}

int64_t kernel_available() {
  std::ifstream in("/proc/meminfo");
  std::string name;
  int64_t kilobytes = 0;
  for (std::string line; in >> name >> kilobytes; std::getline(in, line)) {
    if (name == "MemAvailable:") return kilobytes * 1024;
  }
  return kUnknown;
}

// Page cache counts as used there, but gives way.
int64_t group_available(const std::string& folder, const char* limit, const char* used) {
  const int64_t most = number_in(folder + limit), now = number_in(folder + used);
  if (most == kUnknown || now == kUnknown || most > kUnknown / 4) return kUnknown;
  int64_t cached = 0;
  std::ifstream stat(folder + "/memory.stat");
  std::string name;
  int64_t value = 0;
  while (stat >> name >> value) {
    if (name == "inactive_file" || name == "total_inactive_file") cached = value;
  }
  return std::max<int64_t>(0, most - now + cached);
}

}  // namespace

int64_t available_memory() {
  std::string path = "/";
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::")) path = line.substr(3);
  }
  const std::string v2 = "/sys/fs/cgroup" + (path == "/" ? std::string() : path);
  return std::min(
      {kernel_available(), group_available(v2, "/memory.max", "/memory.current"),
       group_available("/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes")});
}

}  // namespace qwb
