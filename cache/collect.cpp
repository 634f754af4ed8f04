// Operations on the whole store: list, why, verify, gc, remove.
#include <algorithm>
#include <map>
#include <set>

#include "cache/object.h"
#include "cache/store.h"
#include "lib/base/file_lock.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

// Without locks the file system cannot say whether an object is in use: one that was used within a
// day is left alone.
constexpr int64_t kUnlockedGrace = 24 * 3600;

bool is_hex(const std::string& text) {
  return text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::vector<std::string> folder_names(const Path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Leaves of a JSON value by dotted path. Lists are leaves: their elements mean something only
// together.
void flatten(const Json& value, const std::string& path, std::map<std::string, Json>& leaves) {
  if (!value.is_object() || value.empty()) {
    leaves.emplace(path, value);
    return;
  }
  for (const auto& [name, inner] : value.items())
    flatten(inner, path.empty() ? name : path + "." + name, leaves);
}

std::vector<KeyDifference> differences(const Json& stored, const Json& wanted) {
  std::map<std::string, Json> left;
  std::map<std::string, Json> right;
  flatten(stored, "", left);
  flatten(wanted, "", right);
  std::set<std::string> names;
  for (const auto& [name, value] : left) names.insert(name);
  for (const auto& [name, value] : right) names.insert(name);
  std::vector<KeyDifference> result;
  for (const std::string& name : names) {
    const Json was = left.contains(name) ? left.at(name) : Json(nullptr);
    const Json now = right.contains(name) ? right.at(name) : Json(nullptr);
    if (was != now) result.push_back({name, was, now});
  }
  return result;
}

enum class Removal { done, in_use, gone };

Removal remove_object(const Path& object) {
  const Path manifest = object / "object.json";
  std::error_code error;
  if (!fs::exists(object, error)) return Removal::gone;
  const auto [lease, outcome] = FileLock::take(manifest, FileLock::Mode::exclusive);
  if (outcome == FileLock::Outcome::busy) return Removal::in_use;
  const bool unlocked = outcome == FileLock::Outcome::impossible && fs::exists(manifest, error);
  if (unlocked && unix_seconds() - last_used(object) < kUnlockedGrace) return Removal::in_use;
  const Path away = temporary_sibling(object);
  fs::rename(object, away, error);
  if (error == std::errc::no_such_file_or_directory) return Removal::gone;
  if (error) throw system_error("cannot remove", object.string(), error.value());
  remove_tree(away);
  return Removal::done;
}

void count(GcReport& report, const CacheEntry& entry, Removal removal) {
  if (removal == Removal::done) {
    report.removed.push_back(entry.hex);
    report.bytes_removed += entry.bytes;
  } else if (removal == Removal::in_use) {
    ++report.in_use;
    report.bytes_kept += entry.bytes;
  }
}

}  // namespace

std::vector<std::string> Store::all_hex() const {
  std::vector<std::string> result;
  for (const std::string& head : folder_names(root_ / "objects")) {
    if (head.size() != 2 || !is_hex(head)) continue;
    for (const std::string& tail : folder_names(root_ / "objects" / head)) {
      if (tail.size() == 30 && is_hex(tail)) result.push_back(head + tail);
    }
  }
  return result;
}

std::vector<CacheEntry> Store::list() const {
  std::vector<CacheEntry> entries;
  for (const std::string& hex : all_hex()) {
    const Path object = object_path(hex);
    try {
      const Json manifest = read_object(object, hex);
      entries.push_back({hex, manifest.at("key"), json_int(manifest, "bytes", hex),
                         json_int(manifest, "created", hex), last_used(object),
                         json_string(manifest, "note", hex, ""), object / "data"});
    } catch (const std::exception&) {  // damaged or just removed: verify() tells
      continue;
    }
  }
  // `created` has a resolution of one second, within which several objects may be made; the file's
  // own time is finer.
  std::map<std::string, fs::file_time_type> written;
  for (const CacheEntry& entry : entries) {
    std::error_code ignored;
    written[entry.hex] = fs::last_write_time(object_path(entry.hex) / "object.json", ignored);
  }
  std::stable_sort(entries.begin(), entries.end(), [&](const CacheEntry& a, const CacheEntry& b) {
    return a.created != b.created ? a.created > b.created : written.at(a.hex) > written.at(b.hex);
  });
  return entries;
}

std::optional<CacheEntry> Store::newest() const {
  auto entries = list();
  if (entries.empty()) return std::nullopt;
  return entries.front();
}

std::optional<Nearest> Store::why(const Key& key) const {
  std::optional<Nearest> nearest;
  for (const CacheEntry& entry : list()) {
    auto found = differences(entry.fields, key.fields);
    if (!nearest || found.size() < nearest->differences.size())
      nearest = Nearest{entry, std::move(found)};
  }
  return nearest;
}

std::vector<VerifyReport> Store::verify(const std::string& hex) const {
  std::vector<VerifyReport> reports;
  std::error_code ignored;
  if (!hex.empty() &&
      (!is_hex(hex) || hex.size() != 32 || !fs::exists(object_path(hex), ignored))) {
    throw Error(ErrorKind::not_found, "no such object", hex);
  }
  for (const std::string& one : hex.empty() ? all_hex() : std::vector<std::string>{hex}) {
    const auto lease = FileLock::take(object_path(one) / "object.json", FileLock::Mode::shared);
    try {
      reports.push_back({one, object_problem(object_path(one), read_object(object_path(one), one),
                                             ObjectCheck::bytes, context_)});
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
      require_readable(object_path(one));
      reports.push_back({one, error.what()});
    }
  }
  return reports;
}

GcReport Store::gc(int64_t max_bytes, int64_t max_age_seconds, bool dry_run) const {
  GcReport report;
  const auto remove = [&](const std::string& hex) {
    return dry_run ? Removal::done : remove_object(object_path(hex));
  };
  for (const std::string& hex : all_hex()) {  // what no find() would serve is only in the way
    try {
      read_object(object_path(hex), hex);
    } catch (const std::exception&) {
      require_readable(object_path(hex));
      if (remove(hex) == Removal::done) report.removed.push_back(hex);
    }
  }
  auto entries = list();
  std::stable_sort(entries.begin(), entries.end(), [](const CacheEntry& a, const CacheEntry& b) {
    return a.last_used < b.last_used;
  });
  int64_t total = 0;
  for (const CacheEntry& entry : entries) total += entry.bytes;
  const int64_t now = unix_seconds();
  for (const CacheEntry& entry : entries) {
    const bool old = max_age_seconds >= 0 && now - entry.last_used >= max_age_seconds;
    const bool excess = max_bytes >= 0 && total > max_bytes;
    if (!old && !excess) {
      report.bytes_kept += entry.bytes;
      continue;
    }
    const Removal removal = remove(entry.hex);
    if (removal != Removal::in_use) total -= entry.bytes;
    count(report, entry, removal);
  }
  return report;
}

GcReport Store::remove(const std::string& prefix) const {
  if (prefix.empty() || !is_hex(prefix))
    throw Error(ErrorKind::usage, "not the beginning of an object's key", "'" + prefix + "'");
  GcReport report;
  bool found = false;
  const auto entries = list();
  for (const std::string& hex : all_hex()) {
    if (hex.rfind(prefix, 0) != 0) continue;
    found = true;
    CacheEntry entry;
    entry.hex = hex;
    for (const CacheEntry& known : entries) {
      if (known.hex == hex) entry = known;
    }
    count(report, entry, remove_object(object_path(hex)));
  }
  if (!found)
    throw Error(ErrorKind::not_found, "no object begins with these digits", "'" + prefix + "'");
  return report;
}

}  // namespace qwb
