#include "lib/base/memory.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "lib/base/control_groups.h"

namespace qwb {
namespace {

int64_t kernel_available(const Path& root) {
  std::ifstream in(root / "proc/meminfo");
  std::string name;
  int64_t kilobytes = 0;
  for (std::string line; in >> name >> kilobytes; std::getline(in, line)) {
    if (name == "MemAvailable:") return kilobytes * 1024;
  }
  // Without /proc: free memory and buffers. The page cache is not reported there, so this is a
  // lower bound.
  struct sysinfo info {};
  if (::sysinfo(&info) != 0) return std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(info.freeram + info.bufferram) * static_cast<int64_t>(info.mem_unit);
}

}  // namespace

int64_t available_memory(const Path& root) {
  return std::min(kernel_available(root), memory_in_groups(control_groups(root)));
}

}  // namespace qwb
