// Decides where a run may write, for every tool. Files that this program did not make stay, and so
// does everything that the run reads. Conflicts are found before the work.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/file.h"

namespace qwb {

class Outputs {
 public:
  // force: files, and folders that are ours, may be replaced (--force).
  explicit Outputs(bool force = false, StopToken stop = {})
      : force_(force), stop_(std::move(stop)) {}
  bool force() const { return force_; }

  // True for a file that this program may have written; asked before one is replaced.
  using Kind = std::function<bool(const Path&)>;

  // A file to write, as `flag` names it. Its real place: absolute, links followed. Throws usage if
  // it is a folder, a device, exists without --force, is something else than `kind`, is read by
  // this run or named twice; not_found without its folder; failed where it cannot be written.
  Path file(const Path& target, const std::string& flag, const Kind& kind = {});
  // A folder to make. Throws usage if it is a file, is not empty without --force, is not ours with
  // it (written_files.h), is the current folder or holds it, is a mount point, lies in an input or
  // holds one; failed where it cannot be made.
  Path folder(const Path& target, const std::string& flag);
  // A folder that gets files beside those that it has: each of them is to be asked for by file().
  // Throws as folder() does for places that cannot be written.
  Path folder_for_files(const Path& target, const std::string& flag);
  // A file or folder that the run reads, with everything that lies in it. Names that do not exist
  // on this disk are ignored. Throws usage if an output named before would destroy it.
  void input(const Path& path);
  // A folder that only programs write to (the cache).
  void keep_out(const Path& folder, const std::string& name);

 private:
  struct Identity {
    uint64_t device = 0, inode = 0;
    auto operator<=>(const Identity&) const = default;
  };
  struct Place {
    Path path;  // real
    std::string flag;
    bool is_folder = false;
  };
  struct Input {
    Path path;
    bool is_folder = false;
    std::set<Identity> files;  // itself, or those right in it
  };
  static bool identify(const Path& path, Identity& identity);
  static bool lies_in(const Path& path, const Path& folder);
  static std::vector<Path> files_of(const Path& folder);
  void add(Place place);
  void check(const Place& output, const Input& input) const;
  void check(const Place& output, const Place& other) const;
  void check_kept_out(const Place& output) const;

  bool force_ = false;
  StopToken stop_;
  std::vector<Place> outputs_;
  std::vector<Input> inputs_;
  std::vector<std::pair<Path, std::string>> kept_out_;
};

}  // namespace qwb
