// The content-addressed store of artifacts. Layout on disk and the argument for its safety:
// cache/README.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

enum class ObjectCheck;  // object.h

// The key: named fields that decide an object's bytes (source hash, method, settings, ...). Nothing
// else may be in it: no paths, no thread counts.
struct Key {
  Json fields = Json::object();
  // XXH3-128 of the fields, 32 hex digits. The order of fields does not matter.
  std::string hex() const;
};

// While one of these lives, gc() and remove() leave the object alone (where the file system has
// locks).
class FileLock;

// A stored object, checked.
struct CacheObject {
  std::string hex;
  Path data;      // the folder that was filled
  Json manifest;  // object.json: key, created, bytes, files, note
  std::shared_ptr<const FileLock> lease;
};

struct CacheEntry {
  std::string hex;
  Json fields;          // the key's
  int64_t bytes = 0;    // of all files
  int64_t created = 0;  // seconds since 1970
  int64_t last_used = 0;
  std::string note;
  Path data;
};

struct KeyDifference {
  std::string field;  // dotted: "settings.group_size"
  Json stored;        // null: absent
  Json wanted;
};
struct Nearest {
  CacheEntry entry;
  std::vector<KeyDifference> differences;  // empty: the object is there
};

struct VerifyReport {
  std::string hex;
  std::string problem;  // empty: every byte is as it was written
};

struct GcReport {
  std::vector<std::string> removed;
  int64_t bytes_removed = 0;
  int64_t bytes_kept = 0;
  int64_t in_use = 0;  // objects that had to stay because somebody is using them
};

// $QWB_CACHE, else $XDG_CACHE_HOME/qwb, else ~/.cache/qwb. Throws usage if none of the variables is
// set.
Path default_cache_root();
// The same, or nothing: for work that a cache only makes faster.
std::optional<Path> find_cache_root();
// Its folder for notes about files (Checkpoint::content_hash), or an empty path.
Path default_memo_folder();

class Store {
 public:
  struct Options {
    Path root = {};  // empty: default_cache_root()
    // A build by another process that shows no sign of life for this long is no longer waited for.
    double patience_seconds = 60;
    // Whose threads hash files, and who may stop that and the waiting for another process.
    Context context = {};
  };
  using Fill = std::function<void(const Path& folder)>;  // fills an existing, empty folder with
                                                         // regular files and folders
  using Message = std::function<void(const std::string& text)>;  // something the user should know

  // Removes what killed processes left behind; creates nothing.
  explicit Store(const Options& options);
  Store();

  const Path& root() const { return root_; }
  // Where readers may keep notes about files outside of the cache (Checkpoint::content_hash).
  Path memo_folder() const { return root_ / "memo"; }

  // The object if it is there and undamaged. A damaged one is removed. Never throws for what it
  // finds in the cache.
  std::optional<CacheObject> find(const Key& key) const;

  // Whether there is one, damaged or not. Changes nothing.
  bool holds(const Key& key) const;

  // The object, built by `fill` if it is not there. If another process is building the same, waits
  // for it (reported to `message`) and takes its result. Throws what `fill` throws, leaving nothing
  // behind; `failed`, naming QWB_CACHE, if the cache cannot be written.
  CacheObject build(const Key& key, const Fill& fill, const std::string& note = {},
                    const Message& message = {}) const;

  std::vector<CacheEntry> list() const;  // newest first
  // The keys of all objects, damaged ones too, in hex order.
  std::vector<std::string> all_hex() const;
  std::optional<CacheEntry> newest() const;
  // The stored object whose key differs least from this one (the newest of equals) and where it
  // differs; nothing if the cache is empty.
  std::optional<Nearest> why(const Key& key) const;
  // Hashes every byte of the object of that key, or of all objects. Damaged ones are reported and
  // left in place.
  std::vector<VerifyReport> verify(const std::string& hex = {}) const;
  // Removes objects not used for `max_age_seconds` (negative: any age may stay), then the least
  // recently used until at most `max_bytes` (negative: no limit) remain. `dry_run`: only reports,
  // without checking which objects are in use.
  GcReport gc(int64_t max_bytes, int64_t max_age_seconds = -1, bool dry_run = false) const;
  // Removes the objects whose key begins with these hex digits. Throws usage for anything but hex
  // digits, not_found if there is none.
  GcReport remove(const std::string& prefix) const;

 private:
  Path object_path(const std::string& hex) const;
  std::optional<CacheObject> find_hex(const std::string& hex, ObjectCheck check) const;
  CacheObject install(const std::string& hex, const Json& fields, const Fill& fill,
                      const std::string& note) const;

  Path root_;
  double patience_seconds_ = 60;
  Context context_;
};

}  // namespace qwb
