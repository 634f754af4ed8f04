#include "lib/base/control_groups.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <set>
#include <sstream>

namespace qwb {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
constexpr int64_t kSmallestUnlimited = int64_t{1}
                                       << 60;  // version 1 writes no limit as a number near 2^63

// A line of /proc/self/cgroup, or a mount: which controllers ("" for version 2), and the folder.
struct Membership {
  std::string controllers;
  std::string path;
};
struct Mount {
  bool unified = false;
  std::string options;  // "rw,cpu,cpuacct"
  std::string root;     // the part of the hierarchy that is mounted
  Path place;
};

std::vector<std::string> split_words(const std::string& text, char separator) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, separator);) words.push_back(word);
  return words;
}

bool has_controller(const std::string& list, const std::string& controller) {
  const auto words = split_words(list, ',');
  return std::find(words.begin(), words.end(), controller) != words.end();
}

std::vector<Membership> memberships(const Path& file) {
  std::vector<Membership> all;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    all.push_back({line.substr(first + 1, second - first - 1), line.substr(second + 1)});
  }
  return all;
}

// proc(5): id parent major:minor ROOT PLACE options... - TYPE source OPTIONS. A space is written
// \040.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(digits, digits + 3, code, 8).ptr == digits + 3) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::vector<Mount> group_mounts(const Path& file, const Path& root) {
  std::vector<Mount> mounts;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto words = split_words(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 6 || words.end() - dash < 4) continue;
    const std::string& type = *(dash + 1);
    if (type != "cgroup" && type != "cgroup2") continue;
    mounts.push_back({type == "cgroup2", *(dash + 3), unescaped(words[3]),
                      root / Path(unescaped(words[4])).relative_path()});
  }
  return mounts;
}

// `path` and all above it, below the mount. Where the mount shows only a part of the hierarchy the
// path begins there; a path that leads out of it (a namespace's "/..") stands for the mount's root
// alone.
std::vector<Path> lineage(const Path& place, const std::string& mounted, std::string path) {
  if (mounted != "/" && path.starts_with(mounted)) path = path.substr(mounted.size());
  if (path.find("..") != std::string::npos) path = "/";
  std::vector<Path> folders;
  std::error_code ignored;
  for (Path at = Path(path).relative_path();; at = at.parent_path()) {
    const Path folder = at.empty() ? place : place / at;
    if (std::filesystem::is_directory(folder, ignored)) folders.push_back(folder);
    if (at.empty()) return folders;
  }
}

class Finder {
 public:
  Finder(const Path& root, const std::string& controller) : controller_(controller) {
    const Path proc = root / "proc/self", usual = root / "sys/fs/cgroup";
    std::string path = "/";
    for (const Membership& own : memberships(proc / "cgroup")) {
      const bool mine = controller.empty() ? own.controllers.empty()
                                           : has_controller(own.controllers, controller);
      if (!mine) continue;
      path = own.path;
      if (!controller.empty()) take(usual / own.controllers, "/", path);
    }
    for (const Mount& mount : group_mounts(proc / "mountinfo", root)) {
      const bool mine =
          controller.empty() ? mount.unified : has_controller(mount.options, controller);
      if (mine) take(mount.place, mount.root, path);
    }
    if (controller.empty()) {
      take(usual, "/", path);
      take(usual / "unified", "/", path);
    } else {
      take(usual / controller, "/", path);
    }
  }
  std::vector<Path> folders;

 private:
  void take(const Path& place, const std::string& mounted, const std::string& path) {
    for (const Path& folder : lineage(place, mounted, path)) {
      if (seen_.insert(folder.string()).second) folders.push_back(folder);
    }
  }
  std::string controller_;
  std::set<std::string> seen_;
};

std::string first_line(const Path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// The number at the front of a file; nothing for "max", for none and without the file.
std::optional<int64_t> number_in(const Path& file) {
  const std::string line = first_line(file);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

int64_t memory_left(const Path& folder, const char* limit, const char* used) {
  const auto most = number_in(folder / limit);
  if (!most || *most < 0 || *most >= kSmallestUnlimited) return kUnlimited;
  const auto now = number_in(folder / used);
  int64_t cached = 0;
  std::ifstream stat(folder / "memory.stat");
  std::string name;
  int64_t value = 0, total = -1;
  while (stat >> name >> value) {
    if (name == "inactive_file") cached = value;
    if (name == "total_inactive_file") total = value;  // version 1: with the groups below
  }
  // A limit without a figure of use: all of it, at most.
  return std::max<int64_t>(0, *most - now.value_or(0) + (total >= 0 ? total : cached));
}

int processors_of(double quota, double period) {
  if (!(quota > 0) || !(period > 0)) return std::numeric_limits<int>::max();
  return static_cast<int>(std::clamp(std::ceil(quota / period), 1.0, 1e6));
}

// "max 100000", "150000 100000"
int quota_of_unified(const Path& folder) {
  std::istringstream line(first_line(folder / "cpu.max"));
  double quota = 0, period = 0;
  if (!(line >> quota >> period)) return std::numeric_limits<int>::max();
  return processors_of(quota, period);
}

int quota_of_cpu(const Path& folder) {
  const auto quota = number_in(folder / "cpu.cfs_quota_us"),
             period = number_in(folder / "cpu.cfs_period_us");
  if (!quota || !period) return std::numeric_limits<int>::max();
  return processors_of(static_cast<double>(*quota), static_cast<double>(*period));
}

// "0-3,7": 5. An empty list limits nothing.
int listed_processors(const Path& file) {
  int64_t count = 0;
  for (const std::string& range : split_words(first_line(file), ',')) {
    int64_t first = 0, last = 0;
    const char* const end = range.data() + range.size();
    const auto begin = std::from_chars(range.data(), end, first);
    if (begin.ec != std::errc()) continue;
    const bool single = begin.ptr == end || *begin.ptr != '-';
    if (single || std::from_chars(begin.ptr + 1, end, last).ec != std::errc()) last = first;
    count += std::max<int64_t>(0, last - first + 1);
  }
  return count > 0 ? static_cast<int>(std::min<int64_t>(count, 1'000'000))
                   : std::numeric_limits<int>::max();
}

}  // namespace

ControlGroups control_groups(const Path& root) {
  ControlGroups groups;
  groups.unified = Finder(root, "").folders;
  groups.memory = Finder(root, "memory").folders;
  groups.cpu = Finder(root, "cpu").folders;
  groups.cpuset = Finder(root, "cpuset").folders;
  return groups;
}

int64_t memory_in_groups(const ControlGroups& groups) {
  int64_t least = kUnlimited;
  for (const Path& folder : groups.unified) {
    least = std::min(least, memory_left(folder, "memory.max", "memory.current"));
    least = std::min(least, memory_left(folder, "memory.high", "memory.current"));
  }
  for (const Path& folder : groups.memory)
    least = std::min(least, memory_left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes"));
  return least;
}

int processors_in_groups(const ControlGroups& groups) {
  int least = std::numeric_limits<int>::max();
  for (const Path& folder : groups.unified)
    least = std::min({least, quota_of_unified(folder),
                      listed_processors(folder / "cpuset.cpus.effective"),
                      listed_processors(folder / "cpuset.cpus")});
  for (const Path& folder : groups.cpu) least = std::min(least, quota_of_cpu(folder));
  for (const Path& folder : groups.cpuset)
    least = std::min({least, listed_processors(folder / "cpuset.effective_cpus"),
                      listed_processors(folder / "cpuset.cpus")});
  return least;
}

}  // namespace qwb
