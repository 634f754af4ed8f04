#include "cache/object.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <map>
#include <vector>

#include "lib/base/file_hash.h"
#include "lib/base/file_state.h"
#include "lib/base/hash.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr int64_t kObjectVersion = 1;
// A file changed within the same tick of the file system's clock as its verification would keep its
// times.
constexpr int64_t kSettled = 2'000'000'000;

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string line;
  std::getline(file, line);
  return line;
}

// Relative names of all files below data/, sorted.
std::vector<std::string> data_files(const Path& object) {
  std::vector<std::string> names;
  const Path data = object / "data";
  for (const auto& entry : fs::recursive_directory_iterator(data)) {
    if (entry.is_directory() && !entry.is_symlink()) continue;
    if (!entry.is_regular_file() || entry.is_symlink()) {
      throw Error(ErrorKind::failed, "neither a file nor a folder", entry.path().string());
    }
    names.push_back(entry.path().lexically_relative(data).generic_string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> hash_files(const Path& object, const std::vector<std::string>& names,
                                    std::string (*hash)(const Path&, const StopToken&),
                                    const Context& context) {
  std::vector<std::string> hashes(names.size());
  parallel_for(context, static_cast<int64_t>(names.size()),
               [&](int64_t i) { hashes[i] = hash(object / "data" / names[i], context.stop); });
  return hashes;
}

std::string manifest_sum(Json manifest) {
  manifest.erase("sum");
  return hash_hex(as_bytes(json_canonical(manifest)));
}

// Size, times and inode of every file, and the latest change of any.
struct States {
  Json json = Json::array();
  int64_t latest_ns = 0;
};

States file_states(const Path& object, const std::vector<std::string>& names) {
  States states;
  for (const std::string& name : names) {
    const FileState state = file_state(object / "data" / name);
    states.json.push_back({state.size, state.modified_ns, state.changed_ns, state.inode});
    states.latest_ns = std::max(states.latest_ns, state.latest_ns());
  }
  return states;
}

// The files were hashed on this boot, well after their last change, and look the same now.
bool already_verified(const Path& object, const States& now) {
  std::error_code ignored;
  const Path file = object / "verified.json";
  if (!fs::exists(file, ignored)) return false;
  try {
    const Json json = parse_json(read_text(file, 1 << 26), file.string());
    return json_string(json, "boot", "") == boot_id() && json.at("files") == now.json &&
           now.latest_ns < json_int(json, "verified_ns", "") - kSettled;
  } catch (const std::exception&) {
    return false;
  }
}

void note_verified(const Path& object, const States& states, int64_t started_ns) noexcept {
  try {
    const Json json = {{"boot", boot_id()}, {"verified_ns", started_ns}, {"files", states.json}};
    write_file_atomically(object / "verified.json", as_bytes(json.dump()));
  } catch (const std::exception&) {  // a read-only cache is verified anew by every process
    return;
  }
}

}  // namespace

int64_t unix_seconds() {
  return now_ns() / 1'000'000'000;
}

Json describe_object(const Path& object, const Json& fields, const std::string& note,
                     const Context& context) {
  const auto names = data_files(object);
  const auto hashes = hash_files(object, names, written_file_hash, context);
  Json files = Json::array();
  int64_t bytes = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto size = static_cast<int64_t>(fs::file_size(object / "data" / names[i]));
    bytes += size;
    files.push_back({{"name", names[i]}, {"bytes", size}, {"xxh128", hashes[i]}});
  }
  Json manifest = {{"object_version", kObjectVersion},
                   {"key", fields},
                   {"created", unix_seconds()},
                   {"bytes", bytes},
                   {"files", files},
                   {"note", note}};
  manifest["sum"] = manifest_sum(manifest);
  return manifest;
}

Json read_object(const Path& object, const std::string& hex) {
  const std::string where = (object / "object.json").string();
  Json manifest = parse_json(read_text(where, int64_t{1} << 28), where);
  if (json_int(manifest, "object_version", where) != kObjectVersion) {
    throw Error(ErrorKind::failed, "another version of the cache wrote it", where);
  }
  if (json_string(manifest, "sum", where) != manifest_sum(manifest))
    throw Error(ErrorKind::failed, "its sum does not fit", where);
  if (!json_has(manifest, "key") || hash_hex(as_bytes(json_canonical(manifest.at("key")))) != hex) {
    throw Error(ErrorKind::failed, "belongs to another key", where);
  }
  return manifest;
}

void require_readable(const Path& object) {
  const Path file = object / "object.json";
  std::array<int, 3> files{};  // as many as reading takes at a time
  int reason = 0;
  for (int& one : files) {
    one = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (one < 0) reason = errno;
  }
  for (const int one : files) {
    if (one >= 0) ::close(one);
  }
  if (reason != 0 && reason != ENOENT) throw system_error("cannot open", file.string(), reason);
}

std::string object_problem(const Path& object, const Json& manifest, ObjectCheck check,
                           const Context& context) {
  try {
    const auto names = data_files(object);
    const Json& files = manifest.at("files");
    if (names.size() != files.size()) return "files are missing or too many";
    for (size_t i = 0; i < names.size(); ++i) {
      if (files[i].at("name") != names[i]) return names[i] + " does not belong here";
      if (fs::file_size(object / "data" / names[i]) != files[i].at("bytes").get<uintmax_t>())
        return names[i] + " has another size";
    }
    if (check == ObjectCheck::shape) return {};
    const int64_t started = now_ns();
    const States states = file_states(object, names);
    if (check == ObjectCheck::changed && already_verified(object, states)) return {};
    const auto hashes = hash_files(object, names, file_hash, context);
    for (size_t i = 0; i < names.size(); ++i) {
      if (files[i].at("xxh128") != hashes[i]) return names[i] + " has other bytes";
    }
    note_verified(object, states, started);
    return {};
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    return error.what();
  } catch (const std::exception& error) {
    return as_error(error).what();
  }
}

int64_t last_used(const Path& object) {
  int64_t latest = 0;
  for (const char* name : {"used", "object.json"}) {
    struct stat status {};
    if (::stat((object / name).c_str(), &status) == 0)
      latest = std::max<int64_t>(latest, status.st_mtim.tv_sec);
  }
  return latest;
}

void mark_used(const Path& object) noexcept {
  ::utimensat(AT_FDCWD, (object / "used").c_str(), nullptr, 0);
}

}  // namespace qwb
