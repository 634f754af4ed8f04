#include "cache/store.h"

#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "cache/build_lock.h"
#include "cache/object.h"
#include "lib/base/hash.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

constexpr char kElsewhere[] = "set QWB_CACHE to a folder you can write, with room";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

void make_folder(const Path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder)) {
    throw Error(ErrorKind::failed,
                "cannot write to the cache: " + (error ? error.message() : "not a folder"),
                folder.string(), kElsewhere);
  }
}

// The time of a lock file, as a sign of life; changes are compared, so that the clocks of two
// machines need not agree.
int64_t pulse(const Path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return 0;
  return static_cast<int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace

std::string Key::hex() const {
  return hash_hex(as_bytes(json_canonical(fields)));
}

std::optional<Path> find_cache_root() {
  if (const auto root = environment("QWB_CACHE"); !root.empty()) return Path(root);
  if (const auto xdg = environment("XDG_CACHE_HOME"); !xdg.empty() && xdg[0] == '/')
    return Path(xdg) / "qwb";
  if (const auto home = environment("HOME"); !home.empty()) return Path(home) / ".cache/qwb";
  return std::nullopt;
}

Path default_memo_folder() {
  const auto root = find_cache_root();
  return root ? *root / "memo" : Path();
}

Path default_cache_root() {
  if (const auto root = find_cache_root()) return *root;
  throw Error(ErrorKind::usage, "no place for the cache: HOME is not set", {}, kElsewhere);
}

Store::Store() : Store(Options{}) {}

Store::Store(const Options& options)
    : root_(fs::absolute(options.root.empty() ? default_cache_root() : options.root)),
      patience_seconds_(options.patience_seconds),
      context_(options.context) {
  std::error_code error;
  for (fs::directory_iterator it(root_ / "objects", error), end; !error && it != end;
       it.increment(error)) {
    remove_stale_temporaries(it->path());
    for (fs::directory_iterator inner(it->path(), error), last; !error && inner != last;
         inner.increment(error)) {
      remove_stale_temporaries(inner->path());  // half-written verified.json
    }
  }
  remove_stale_temporaries(memo_folder());
  BuildLock::sweep(root_ / "locks");
}

Path Store::object_path(const std::string& hex) const {
  return root_ / "objects" / hex.substr(0, 2) / hex.substr(2);
}

bool Store::holds(const Key& key) const {
  std::error_code ignored;
  return fs::exists(object_path(key.hex()), ignored);
}

std::optional<CacheObject> Store::find(const Key& key) const {
  return find_hex(key.hex(), ObjectCheck::changed);
}

std::optional<CacheObject> Store::find_hex(const std::string& hex, ObjectCheck check) const {
  const Path object = object_path(hex);
  std::error_code ignored;
  if (!fs::exists(object, ignored)) return std::nullopt;
  // The lease is taken before the object is checked, so that gc() cannot move it away in between.
  const auto [lease, outcome] = FileLock::take(object / "object.json", FileLock::Mode::shared);
  if (lease && !lease->still_at(object / "object.json")) return std::nullopt;
  if (lease && outcome == FileLock::Outcome::busy) return std::nullopt;  // being removed
  try {
    CacheObject result{hex, object / "data", read_object(object, hex), lease};
    if (object_problem(object, result.manifest, check, context_).empty()) {
      mark_used(object);
      return result;
    }
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    require_readable(object);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (
      const std::exception&) {  // nlohmann's, for a manifest of the wrong shape: damaged as well
  }
  if (lease && !lease->still_at(object / "object.json"))
    return std::nullopt;  // somebody replaced it meanwhile
  const Path away = temporary_sibling(object);
  fs::rename(object, away, ignored);
  remove_tree(away);
  return std::nullopt;
}

CacheObject Store::build(const Key& key, const Fill& fill, const std::string& note,
                         const Message& message) const {
  const std::string hex = key.hex();
  if (auto object = find_hex(hex, ObjectCheck::changed)) return *object;
  make_folder(root_ / "locks");
  make_folder(object_path(hex).parent_path());
  const Path lock_file = root_ / "locks" / hex;
  std::unique_ptr<BuildLock> lock;
  try {
    lock = BuildLock::try_take(lock_file);
  } catch (const Error& error) {
    throw Error(ErrorKind::failed, error.what(), "cache", kElsewhere);
  }
  if (!lock && message) message("another process is building the same artifact; waiting for it");
  int64_t seen = pulse(lock_file);
  auto alive = std::chrono::steady_clock::now();
  while (!lock) {
    context_.stop.check();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    lock = BuildLock::try_take(lock_file);
    const auto now = std::chrono::steady_clock::now();
    if (const int64_t latest = pulse(lock_file); latest != seen) {
      seen = latest;
      alive = now;
    } else if (std::chrono::duration<double>(now - alive).count() > patience_seconds_) {
      if (message) message("the other process shows no sign of life; doing the work here");
      break;
    }
  }
  if (auto object = find_hex(hex, ObjectCheck::changed)) return *object;
  return install(hex, key.fields, fill, note);
}

// Fills a private folder and renames it into place.
CacheObject Store::install(const std::string& hex, const Json& fields, const Fill& fill,
                           const std::string& note) const {
  const Path target = object_path(hex);
  std::optional<PendingFolder> folder;
  try {
    folder.emplace(target, context_.stop);
    make_folder(folder->path() / "data");
  } catch (const Error& error) {
    throw Error(ErrorKind::failed, error.what(), "cache", kElsewhere);
  }
  fill(folder->path() / "data");
  const std::string manifest = json_text(describe_object(folder->path(), fields, note, context_));
  for (const auto& [name, text] :
       {std::pair<const char*, std::string>{"object.json", manifest}, {"used", ""}}) {
    OutputFile file = OutputFile::create(folder->path() / name, static_cast<int64_t>(text.size()));
    file.write(0, as_bytes(text));
    file.finish();
  }
  // Not committed: another process was first, and its object is equivalent. If it turns out damaged
  // or is just being removed, find_hex() makes room, and ours goes in.
  bool committed = false;
  for (int attempt = 0; attempt < 40 && !committed; ++attempt) {
    committed = folder->commit();
    // Our own bytes were hashed a moment ago.
    if (auto object = find_hex(hex, committed ? ObjectCheck::shape : ObjectCheck::changed))
      return *object;
    if (!committed) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  throw Error(
      ErrorKind::failed, "what was stored cannot be read back", target.string(),
      "another process removes it, or the disk loses data; set QWB_CACHE to another folder");
}

}  // namespace qwb
