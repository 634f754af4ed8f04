// Temporary names that contain their maker (file.h).
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <fstream>
#include <random>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/hash.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr char kMarker[] = ".qwb-tmp-";

// Distinguishes machines, boots and containers: a process id has a meaning only within one of them.
const std::string& process_space() {
  static const std::string id = [] {
    Hasher hasher;
    std::error_code ignored;
    std::ifstream boot("/proc/sys/kernel/random/boot_id");
    std::string line;
    std::getline(boot, line);
    hasher.field(line).field(fs::read_symlink("/proc/self/ns/pid", ignored).string());
    return hasher.hex().substr(0, 12);
  }();
  return id;
}

// The start of the process, in clock ticks since boot: it distinguishes a process id that is used
// again. Empty if there is no such process.
std::string process_start(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  size_t at = name_end + 1;  // the space before field 3, the state; field 22 is the start (proc(5))
  for (int field = 3; field < 22 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  if (at == std::string::npos) return {};
  return text.substr(at + 1, text.find(' ', at + 1) - at - 1);
}

bool is_alive(const std::string& pid) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(pid.data(), pid.data() + pid.size(), number);
  if (error != std::errc() || end != pid.data() + pid.size() || number <= 0 || number > INT32_MAX)
    return true;
  return ::kill(static_cast<pid_t>(number), 0) == 0 || errno == EPERM;
}

bool is_stale(const Path& path) {
  const std::string name = path.filename().string();
  const std::string tail = name.substr(name.rfind(kMarker) + sizeof(kMarker) - 1);
  const size_t first = tail.find('-');
  const size_t second = tail.find('-', first + 1);
  const size_t third = tail.find('-', second + 1);
  if (third == std::string::npos) return false;
  if (tail.substr(0, first) == process_space()) {
    const std::string pid = tail.substr(first + 1, second - first - 1);
    const std::string start = process_start(pid);
    // Where /proc hides other users' processes, only the system call shows whether one lives.
    if (start.empty() && is_alive(pid)) return false;
    return start != tail.substr(second + 1, third - second - 1);
  }
  std::error_code error;
  const auto written = fs::last_write_time(path, error);
  return !error && fs::file_time_type::clock::now() - written > std::chrono::hours(24 * 7);
}

}  // namespace

bool is_temporary_name(const std::string& file_name) {
  return file_name.find(kMarker) != std::string::npos;
}

Path temporary_sibling(const Path& target) {
  static thread_local std::random_device device;
  const std::string pid = std::to_string(::getpid());
  const Path name = target.has_filename() ? target.filename() : target.parent_path().filename();
  const Path folder =
      target.has_filename() ? target.parent_path() : target.parent_path().parent_path();
  return folder / ("." + name.string().substr(0, 100) + kMarker + process_space() + "-" + pid +
                   "-" + process_start(pid) + "-" + std::to_string(device()));
}

void remove_stale_temporaries(const Path& folder) noexcept {
  try {
    std::error_code error;
    std::vector<Path> stale;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      if (is_temporary_name(it->path().filename().string()) && is_stale(it->path()))
        stale.push_back(it->path());
    }
    for (const Path& path : stale) fs::remove_all(path, error);
  } catch (...) {  // cleaning is a courtesy
    return;
  }
}

}  // namespace qwb
