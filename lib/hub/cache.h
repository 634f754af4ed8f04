// The cache folder of huggingface_hub (its docs/hub/local-cache.md), one repository's part of it:
// see lib/hub/README.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/hub/names.h"

namespace qwb::hub {

class RepoCache {
 public:
  RepoCache(const Path& cache, const RepoName& repo, bool symlinks);

  Path folder() const { return folder_; }
  Path blobs() const { return folder_ / "blobs"; }
  Path locks() const { return locks_; }
  Path snapshot(const std::string& commit) const { return folder_ / "snapshots" / commit; }

  // The commit that the revision stood for when it was last looked at: itself if it is one, else
  // from refs/. Empty: not known.
  std::string commit() const;
  void write_ref(const std::string& commit) const;

  // The list of all files at a commit, if huggingface_hub (trees/) or write_tree() (.qwb/trees/, of
  // the same format) kept it. Damaged or hostile ones count as absent. Ours lies apart because
  // huggingface_hub takes a list in trees/ as a sign that all of it is wanted, and calls a snapshot
  // without the .bin files incomplete.
  std::optional<std::vector<RemoteFile>> tree(const std::string& commit) const;
  void write_tree(const std::string& commit, const std::vector<RemoteFile>& files) const;

  // The file is in the snapshot, with its size.
  bool has(const std::string& commit, const RemoteFile& file) const;
  // The file's content is there, whether or not a snapshot shows it.
  bool has_blob(const RemoteFile& file) const;
  // Shows the blob in the snapshot: by a relative symlink; where there are none by a hard link,
  // else by moving it (copying, if `needed_again` by another file of the same content).
  void place(const std::string& commit, const RemoteFile& file, bool needed_again) const;

  // `.no_exist`: the commit is known not to have this file.
  bool known_absent(const std::string& commit, const std::string& path) const;
  void mark_absent(const std::string& commit, const std::string& path) const;

  // CACHEDIR.TAG at the top, so that backups leave the cache out.
  void tag() const;

 private:
  static std::optional<std::vector<RemoteFile>> kept_tree(const Path& path);
  Path cache_, folder_, locks_;
  RepoName repo_;
  bool symlinks_;
};

// Puts a file at `target` (its folder exists) atomically: moves it, or with `keep` copies it.
void move_or_copy(const Path& from, const Path& target, bool keep);

// Creates the folders of `relative` (without its last component) below `root`, which is created as
// well. Throws verification if one of them is a symlink or a file: it could lead out of `root`.
void create_folders_below(const Path& root, const Path& relative);

}  // namespace qwb::hub
