// Files: read whole or mapped, and written so that a half-written one is never visible.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "lib/base/bytes.h"
#include "lib/base/stop.h"

namespace qwb {

using Path = std::filesystem::path;

// A whole file mapped read-only. Copies share the mapping. An empty file has no bytes.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws not_found or failed.
  static MappedFile open(const Path& path);
  Bytes bytes() const;
  const Path& path() const;
  // Hints: the pages are needed soon, or no longer (they leave this process's resident memory; a
  // later access maps them again).
  void prefetch(Bytes part) const;
  void drop(Bytes part) const;

 private:
  struct Mapping;
  std::shared_ptr<const Mapping> mapping_;
};

// The whole file as text. Throws not_found, failed, or `failed` if it is larger than max_bytes, or
// plainly not what its name says (a Git LFS pointer; of a .json: a web page).
std::string read_text(const Path& path, int64_t max_bytes = int64_t{1} << 30);

// Creates `path` atomically: private temporary sibling, fsync, rename, fsync of the folder. A file
// that is there is replaced, or with replace = false kept: throws usage, naming --force.
void write_file_atomically(const Path& path, Bytes content, bool replace = true);
// The last step of that for a file that was written under a temporary name.
void place_file(const Path& temporary, const Path& path, bool replace);

// A file being written at known offsets. Errors (disk full, say) throw with the path.
class OutputFile {
 public:
  OutputFile() = default;
  // Creates the file (it must not exist) and reserves `size` bytes on disk, so that a full disk
  // shows before the work.
  static OutputFile create(const Path& path, int64_t size);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();
  // Thread-safe for disjoint ranges.
  void write(int64_t offset, Bytes content);
  // Flushes to the disk and closes. Without it the destructor just closes.
  void finish();

 private:
  int fd_ = -1;
  Path path_;
};

// Flushes a folder's entries to the disk (best effort where the file system cannot).
void sync_folder(const Path& folder);

// A private temporary name beside `target`, on the same file system. The name contains machine,
// boot and process, which distinguishes the leftovers of a killed process from the work of a living
// one.
Path temporary_sibling(const Path& target);
// Removes the temporaries in `folder` (files or folders, of any target) whose process no longer
// lives on this machine, or which belong to another machine and are older than a week. Never
// throws.
void remove_stale_temporaries(const Path& folder) noexcept;
bool is_temporary_name(const std::string& file_name);
// Removes a file, or a folder with all that is in it. Needs one descriptor at a time, a spare one
// if there is no other. Links are removed, not followed. Never throws.
void remove_tree(const Path& path) noexcept;

// A folder that appears complete or not at all: filled at path(), then commit() renames it to the
// target. Removed if not committed.
class PendingFolder {
 public:
  explicit PendingFolder(const Path& target, StopToken stop = {});
  ~PendingFolder();
  PendingFolder(const PendingFolder&) = delete;
  PendingFolder& operator=(const PendingFolder&) = delete;
  const Path& path() const { return path_; }
  // Syncs every file and folder inside, then renames. False if the target exists already and is
  // kept. With `replace` the old one makes room if it is our own, with nothing else in it
  // (written_files.h); throws usage otherwise. Wherever the file system can exchange two folders
  // there is one of them at any instant.
  bool commit(bool replace = false);

 private:
  bool take_the_place();

  Path target_;
  Path path_;
  StopToken stop_;
};

// Free bytes on the file system that holds `path` (or its nearest existing parent).
int64_t free_disk_space(const Path& path);

}  // namespace qwb
