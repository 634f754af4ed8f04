// Temporary names that contain their maker (file.h).
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <fstream>
#include <mutex>
#include <random>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/process_policy.h"

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

// As name parts, of this process; read while there were descriptors.
std::string own_name() {
  static std::mutex mutex;
  static pid_t known = 0;
  static std::string name;
  const std::lock_guard lock(mutex);
  if (known != ::getpid()) {
    known = ::getpid();
    const std::string pid = std::to_string(known);
    name = process_space() + "-" + pid + "-" + process_start(pid);
  }
  return name;
}

std::mutex spare_mutex;
std::array<int, 2> spares = {-1, -1};

void open_spares() noexcept {
  for (int& spare : spares) {
    if (spare < 0) spare = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  }
}

void close_spares() noexcept {
  for (int& spare : spares) {
    if (spare >= 0) ::close(spare);
    spare = -1;
  }
}

// A folder is read and closed before what is in it is removed: std's remove_all keeps one open per
// level.
void remove_entry(const Path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return;
  std::error_code error;
  std::vector<Path> inside;
  if (!fs::is_directory(fs::symlink_status(path, error))) return;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error))
    inside.push_back(it->path());
  for (const Path& one : inside) remove_entry(one);
  ::rmdir(path.c_str());
}

}  // namespace

void keep_spare_descriptors() noexcept {
  try {
    own_name();
    const std::lock_guard lock(spare_mutex);
    open_spares();
  } catch (...) {  // without it cleaning is not as sure
    return;
  }
}

void remove_tree(const Path& path) noexcept {
  try {
    const std::lock_guard lock(spare_mutex);
    const bool kept = spares[0] >= 0;
    close_spares();
    remove_entry(path);
    if (kept) open_spares();
  } catch (...) {
    return;
  }
}

bool is_temporary_name(const std::string& file_name) {
  return file_name.find(kMarker) != std::string::npos;
}

Path temporary_sibling(const Path& target) {
  static thread_local std::random_device device;
  const Path name = target.has_filename() ? target.filename() : target.parent_path().filename();
  const Path folder =
      target.has_filename() ? target.parent_path() : target.parent_path().parent_path();
  return folder / ("." + name.string().substr(0, 100) + kMarker + own_name() + "-" +
                   std::to_string(device()));
}

void remove_stale_temporaries(const Path& folder) noexcept {
  try {
    std::error_code error;
    std::vector<Path> stale;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      if (is_temporary_name(it->path().filename().string()) && is_stale(it->path()))
        stale.push_back(it->path());
    }
    for (const Path& path : stale) remove_tree(path);
  } catch (...) {  // cleaning is a courtesy
    return;
  }
}

}  // namespace qwb
